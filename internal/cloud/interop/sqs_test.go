package interop

import (
	"context"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/eventsluice/sluice/internal/cloud/sqstest"
)

func sqsClient(url string, h *http.Client) *sqs.Client {
	return sqs.New(sqs.Options{
		BaseEndpoint: aws.String(url),
		Region:       "us-east-1",
		HTTPClient:   h,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, nil
		}),
	})
}

func BenchmarkSQS(b *testing.B) {
	server := sqstest.New(b, sqstest.Config{Queues: []sqstest.Queue{{Name: "q"}}})
	h := server.Client()
	defer h.CloseIdleConnections()
	_ = sqsClient(server.URL(), h)
}
