package sdk_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/eventsluice/sluice/internal/cloud/sdk"
)

// once is the body of a request as the SDK makes it.
type once struct {
	io.Reader
	closed bool
}

func (b *once) Close() error {
	if b.closed {
		return io.EOF
	}
	b.closed = true
	return nil
}

// late is net/http when the answer comes before it is done with the request.
type late struct{ err error }

func (c *late) Do(r *http.Request) (*http.Response, error) {
	_ = r.Body.Close() // the SDK, which has the answer
	c.err = r.Body.Close()
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
}

func TestAnAnswerThatComesEarlyDoesNotCloseTheConnection(t *testing.T) {
	t.Parallel()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://aws.test", &once{Reader: strings.NewReader("{}")})
	if err != nil {
		t.Fatal(err)
	}
	client := &late{}
	answer, err := sdk.Watched(client).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if client.err != nil {
		t.Errorf("the second close: %v", client.err)
	}
}
