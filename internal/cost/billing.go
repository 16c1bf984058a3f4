package cost

import "time"

// How AWS meters what it bills. A KB is 1,024 bytes and a GB 1,024³ everywhere.
const (
	kilobyte = 1 << 10
	gigabyte = 1 << 30

	// payloadUnit is what a PUT payload unit of Kinesis holds. Source: Kinesis
	// Data Streams pricing page, "25 KB payload chunks" (read 2026-11).
	payloadUnit = 25 * kilobyte

	// queueChunk is what a request to SQS holds; a larger one is billed as
	// several, and a batch as one request of all its messages. Source: SQS
	// features page, "each 64 KB chunk of a payload is billed as 1 request"
	// (read 2026-11).
	queueChunk = 64 * kilobyte

	// backupStep is what Firehose rounds a record up to. Source: Data Firehose
	// pricing page, "billed per GB ingested in 5KB increments" (read 2026-11).
	backupStep = 5 * kilobyte

	// An asynchronous invocation is a request for its first asyncFirst bytes,
	// and one more for each asyncNext above. Source: Lambda pricing page (read
	// 2026-11).
	asyncFirst = 256 * kilobyte
	asyncNext  = 64 * kilobyte

	// A load balancer capacity unit is the most of these. Source: Elastic Load
	// Balancing pricing page (read in a copy of 2026-09-20).
	unitConnections = 25       // new ones a second
	unitActive      = 3000     // of a minute
	unitBytes       = gigabyte // an hour, for targets that are containers

	// hoursPerMonth is what AWS takes for a month in its own examples.
	hoursPerMonth = 730
)

// chunks returns how many of a size n bytes are, the last rounded up; what is
// empty is one too.
func chunks(n, size int) int { return max(1, (n+size-1)/size) }

// payloadUnits returns the PUT payload units of a record, key included.
func payloadUnits(n int) int { return chunks(n, payloadUnit) }

// kilobytes returns the whole KB that a record is on demand, key included.
func kilobytes(n int) int { return chunks(n, kilobyte) }

// queueRequests returns the requests that a call to SQS with so many bytes in
// its messages is billed as.
func queueRequests(n int) int { return chunks(n, queueChunk) }

// backupBytes returns the bytes that Firehose bills for a record.
func backupBytes(n int) int { return chunks(n, backupStep) * backupStep }

// asyncRequests returns the requests that an asynchronous invocation is billed
// as.
func asyncRequests(n int) int {
	if n <= asyncFirst {
		return 1
	}
	return 1 + chunks(n-asyncFirst, asyncNext)
}

// BilledMillis returns the milliseconds that Lambda bills for an invocation:
// each one begun counts whole. Source: Lambda pricing page, "rounded up to the
// nearest 1 ms" (read 2026-11).
func BilledMillis(took time.Duration) int {
	return max(1, int((took+time.Millisecond-1)/time.Millisecond))
}

// tier is a price that holds from a quantity in a month on.
type tier struct {
	from  float64
	price Price
}

// blend splits a quantity of a month over tiers, which begin with one from 0,
// and returns the part of each.
func blend(monthly float64, tiers []tier) []float64 {
	parts := make([]float64, len(tiers))
	for i, t := range tiers {
		until := monthly
		if i+1 < len(tiers) {
			until = min(monthly, tiers[i+1].from)
		}
		parts[i] = max(0, until-t.from)
	}
	return parts
}
