"""The loop of the article that sends straight to the stream, in today's Python.

What the article leaves out, boto3 takes from its environment: where the
endpoint is, and for whom. The name of the stream is the argument.
"""

import sys
from time import gmtime, strftime

import boto3

client = boto3.client("kinesis")
for i in range(300):
    print("sending event", i, "\nresponse: ", end="")
    response = client.put_record(
        StreamName=sys.argv[1],
        Data='{"name":"event-%d","data":{"square":%d}}' % (i, i * i),
        PartitionKey=strftime("PK-%Y%m%d-%H%M%S", gmtime()),
    )
    print(response)
