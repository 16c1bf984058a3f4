"""What an operator does to a dead letter queue, with the AWS SDK for Python.

boto3 and the command line of AWS share their client. The name of the queue is
the argument; where the endpoint is, boto3 takes from its environment.
"""

import sys

import boto3
from botocore.exceptions import ClientError

sqs = boto3.client("sqs")
url = sqs.get_queue_url(QueueName=sys.argv[1])["QueueUrl"]
sent = sqs.send_message_batch(
    QueueUrl=url,
    Entries=[
        {
            "Id": str(i),
            "MessageBody": '{"n":%d}' % i,
            "MessageAttributes": {
                "ErrorCode": {"DataType": "Number", "StringValue": "500"},
                "Trace": {"DataType": "Binary", "BinaryValue": bytes(range(256))},
            },
        }
        for i in range(10)
    ],
)
assert len(sent["Successful"]) == 10 and not sent.get("Failed"), sent

count = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
assert count["Attributes"] == {"ApproximateNumberOfMessages": "10"}, count

got = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], AttributeNames=["All"])["Messages"]
assert [m["Body"] for m in got] == ['{"n":%d}' % i for i in range(10)], got
assert got[0]["MessageAttributes"]["Trace"]["BinaryValue"] == bytes(range(256)), got[0]
assert got[0]["Attributes"]["ApproximateReceiveCount"] == "1", got[0]

deleted = sqs.delete_message_batch(
    QueueUrl=url, Entries=[{"Id": m["MessageId"], "ReceiptHandle": m["ReceiptHandle"]} for m in got]
)
assert len(deleted["Successful"]) == 10, deleted
assert "Messages" not in sqs.receive_message(QueueUrl=url) or not sqs.receive_message(QueueUrl=url)["Messages"]

sqs.purge_queue(QueueUrl=url)
try:
    sqs.purge_queue(QueueUrl=url)
    raise AssertionError("a second purge was let through")
except sqs.exceptions.PurgeQueueInProgress as e:
    assert e.response["Error"]["Code"] == "AWS.SimpleQueueService.PurgeQueueInProgress", e.response
try:
    sqs.get_queue_url(QueueName="none")
    raise AssertionError("a queue that is not there was found")
except sqs.exceptions.QueueDoesNotExist as e:
    assert e.response["Error"]["Code"] == "AWS.SimpleQueueService.NonExistentQueue", e.response
    assert e.response["Error"]["Type"] == "Sender", e.response
try:
    sqs.send_message(QueueUrl=url, MessageBody="\x00")
    raise AssertionError("a message with a zero byte was taken")
except ClientError as e:
    assert e.response["Error"]["Code"] == "InvalidMessageContents", e.response
print("done")
