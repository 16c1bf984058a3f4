// Takes records apart with aws-kinesis-agg: one a line on the input, as JSON
// with partitionKey, sequenceNumber and data in base64. What it makes of each
// is printed as one line: an array of user records, or an object with error.
import { createInterface } from 'node:readline'
import { deaggregateSync } from 'aws-kinesis-agg'

for await (const line of createInterface({ input: process.stdin })) {
  deaggregateSync(JSON.parse(line), true, (err, users) => {
    console.log(JSON.stringify(err ? { error: String(err) } : users))
  })
}
