package sqstest

// The shapes of the API, with the members that are served. Others in a request
// are ignored.

type queueRef struct{ QueueUrl string }

type sendInput struct {
	queueRef
	sendEntry
}

// sendEntry is a message as it is sent: alone or, with an Id, in a batch.
type sendEntry struct {
	Id                      string
	DelaySeconds            *int
	MessageAttributes       map[string]attributeShape
	MessageBody             string
	MessageDeduplicationId  string
	MessageGroupId          string
	MessageSystemAttributes map[string]attributeShape
}

type attributeShape struct {
	BinaryValue []byte `json:",omitempty"`
	DataType    string
	StringValue string `json:",omitempty"`
}

// sendResult is an answer to SendMessage or, with an Id, an entry of one to
// SendMessageBatch.
type sendResult struct {
	Id                           string `json:",omitempty"`
	MD5OfMessageAttributes       string `json:",omitempty"`
	MD5OfMessageBody             string
	MD5OfMessageSystemAttributes string `json:",omitempty"`
	MessageId                    string
	SequenceNumber               string `json:",omitempty"`
}

type batchInput[Entry any] struct {
	queueRef
	Entries []Entry
}

type batchOutput[Result any] struct {
	Failed     []failedEntry
	Successful []Result
}

type failedEntry struct {
	Code        string
	Id          string
	Message     string
	SenderFault bool
}

type idResult struct{ Id string }

type receiveInput struct {
	queueRef
	AttributeNames              []string
	MaxNumberOfMessages         *int
	MessageAttributeNames       []string
	MessageSystemAttributeNames []string
	VisibilityTimeout           *int
	WaitTimeSeconds             *int
}

type receiveOutput struct {
	Messages []messageShape `json:",omitempty"`
}

type messageShape struct {
	Attributes             map[string]string `json:",omitempty"`
	Body                   string
	MD5OfBody              string
	MD5OfMessageAttributes string                    `json:",omitempty"`
	MessageAttributes      map[string]attributeShape `json:",omitempty"`
	MessageId              string
	ReceiptHandle          string
}

type receiptInput struct {
	queueRef
	receiptEntry
}

// receiptEntry names a message that was received: alone or, with an Id, in a
// batch. VisibilityTimeout is for changes of that.
type receiptEntry struct {
	Id                string
	ReceiptHandle     string
	VisibilityTimeout *int
}

type createInput struct {
	Attributes map[string]string
	QueueName  string
	Tags       map[string]string `json:"tags"`
}

type urlOutput struct{ QueueUrl string }

type attributesInput struct {
	queueRef
	AttributeNames []string
}

type attributesOutput struct {
	Attributes map[string]string `json:",omitempty"`
}

type setAttributesInput struct {
	queueRef
	Attributes map[string]string
}

type nameInput struct {
	QueueName              string
	QueueOwnerAWSAccountId string
}

type listInput struct {
	queueRef        // of ListDeadLetterSourceQueues
	MaxResults      *int
	NextToken       string
	QueueNamePrefix string
}

type listOutput struct {
	NextToken string   `json:",omitempty"`
	QueueUrls []string `json:",omitempty"`
}

type sourcesOutput struct {
	NextToken string   `json:",omitempty"`
	QueueUrls []string `json:"queueUrls"`
}

type tagInput struct {
	queueRef
	Tags map[string]string
}

type untagInput struct {
	queueRef
	TagKeys []string
}

type tagsOutput struct {
	Tags map[string]string `json:",omitempty"`
}
