package kinesistest

// The shapes of the API, with the members that are served. Others in a request
// are ignored, as Kinesis ignores what it does not know.

// streamRef names a stream, by one or the other.
type streamRef struct {
	StreamName string
	StreamARN  string
}

type entry struct {
	Data            []byte
	PartitionKey    *string
	ExplicitHashKey string
}

type putRecordInput struct {
	streamRef
	entry
	SequenceNumberForOrdering string
}

type putRecordOutput struct {
	EncryptionType string `json:",omitempty"`
	SequenceNumber string
	ShardId        string
}

type putRecordsInput struct {
	streamRef
	Records []entry
}

type putRecordsOutput struct {
	EncryptionType    string `json:",omitempty"`
	FailedRecordCount int
	Records           []result
}

// result is one entry of a PutRecords answer.
type result struct {
	SequenceNumber string `json:",omitempty"`
	ShardId        string `json:",omitempty"`
	ErrorCode      string `json:",omitempty"`
	ErrorMessage   string `json:",omitempty"`
}

type createStreamInput struct {
	StreamName         string
	ShardCount         *int
	MaxRecordSizeInKiB int
	StreamModeDetails  streamMode
}

type streamMode struct{ StreamMode string }

type shardFilter struct {
	Type      string
	ShardId   string
	Timestamp *epoch
}

type listShardsInput struct {
	streamRef
	ExclusiveStartShardId string
	MaxResults            *int
	NextToken             string
	ShardFilter           *shardFilter
}

type listShardsOutput struct {
	NextToken string `json:",omitempty"`
	Shards    []shardShape
}

type shardShape struct {
	AdjacentParentShardId string `json:",omitempty"`
	HashKeyRange          rangeShape
	ParentShardId         string `json:",omitempty"`
	SequenceNumberRange   struct {
		EndingSequenceNumber   string `json:",omitempty"`
		StartingSequenceNumber string
	}
	ShardId string
}

type rangeShape struct {
	EndingHashKey   string
	StartingHashKey string
}

type childShape struct {
	HashKeyRange rangeShape
	ParentShards []string
	ShardId      string
}

type getShardIteratorInput struct {
	streamRef
	ShardId                string
	ShardIteratorType      string
	StartingSequenceNumber string
	Timestamp              *epoch
}

type getShardIteratorOutput struct {
	ShardIterator string
}

type getRecordsInput struct {
	streamRef
	Limit         *int
	ShardIterator string
}

type getRecordsOutput struct {
	ChildShards        []childShape `json:",omitempty"`
	MillisBehindLatest int64
	NextShardIterator  string `json:",omitempty"`
	Records            []recordShape
}

type recordShape struct {
	ApproximateArrivalTimestamp epoch
	Data                        []byte
	EncryptionType              string `json:",omitempty"`
	PartitionKey                string
	SequenceNumber              string
}

type describeStreamInput struct {
	streamRef
	ExclusiveStartShardId string
	Limit                 *int
}

type describeStreamOutput struct{ StreamDescription streamDescription }

type streamDescription struct {
	streamShape
	EncryptionType       string
	EnhancedMonitoring   []monitoring
	HasMoreShards        bool
	KeyId                string `json:",omitempty"`
	RetentionPeriodHours int
	Shards               []shardShape
}

type describeStreamSummaryOutput struct{ StreamDescriptionSummary streamSummary }

type streamSummary struct {
	streamShape
	ConsumerCount        int
	EncryptionType       string
	EnhancedMonitoring   []monitoring
	KeyId                string `json:",omitempty"`
	MaxRecordSizeInKiB   int
	OpenShardCount       int
	RetentionPeriodHours int
}

type monitoring struct{ ShardLevelMetrics []string }

// streamShape is what every description of a stream has.
type streamShape struct {
	StreamARN               string
	StreamCreationTimestamp epoch
	StreamModeDetails       streamMode
	StreamName              string
	StreamStatus            status
}

type listStreamsInput struct {
	ExclusiveStartStreamName string
	Limit                    *int
	NextToken                string
}

type listStreamsOutput struct {
	HasMoreStreams  bool
	NextToken       string `json:",omitempty"`
	StreamNames     []string
	StreamSummaries []streamShape
}

type splitShardInput struct {
	streamRef
	NewStartingHashKey string
	ShardToSplit       string
}

type mergeShardsInput struct {
	streamRef
	AdjacentShardToMerge string
	ShardToMerge         string
}

type updateShardCountInput struct {
	streamRef
	ScalingType      string
	TargetShardCount int
}

type updateShardCountOutput struct {
	CurrentShardCount int
	StreamARN         string
	StreamName        string
	TargetShardCount  int
}
