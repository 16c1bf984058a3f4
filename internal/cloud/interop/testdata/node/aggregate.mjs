// Makes records with aws-kinesis-agg: one a line on the input, as a JSON array
// of user records with partitionKey, explicitHashKey (may be missing) and data
// in base64. Each is printed as one line of JSON, with data in base64.
import { createInterface } from 'node:readline'
import { RecordAggregator } from 'aws-kinesis-agg'

for await (const line of createInterface({ input: process.stdin })) {
  const aggregator = new RecordAggregator()
  for (const user of JSON.parse(line)) {
    aggregator.addUserRecord({ ...user, data: Buffer.from(user.data, 'base64') })
  }
  const { partitionKey, data } = aggregator.build()
  console.log(JSON.stringify({ partitionKey, data: data.toString('base64') }))
}
