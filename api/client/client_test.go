package client_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/eventsluice/sluice/api/client"
)

// The end-to-end tests run this against a gateway.
func ExampleNewClientWithResponses() {
	c, err := client.NewClientWithResponses(os.Getenv("SLUICE_URL"), client.WithKey(os.Getenv("SLUICE_KEY")))
	if err != nil {
		fmt.Println(err)
		return
	}
	id, user, now := "order-7-placed", "u1", time.Now()
	resp, err := c.SendEventsWithResponse(context.Background(), nil, client.EventBatch{Events: []client.Event{{
		Id: &id, Name: "order_placed", UserId: &user, Timestamp: &now, Data: &map[string]any{"total": 12.5},
	}}})
	if err != nil {
		fmt.Println("send it again:", err)
		return
	}
	if accepted := resp.Accepted(); accepted != nil {
		fmt.Println(accepted.Accepted, "durable")
		return
	}
	fmt.Println(resp.Problem().Code, "wait", resp.RetryAfter())
}

func TestAnswersAreReadWhateverTheyAre(t *testing.T) {
	const problem = `{"type":"t","title":"T","status":429,"detail":"d","success":false,"error":"T","code":"rate_limited","message":"d"}`
	for _, tt := range []struct {
		name, contentType, body string
		status                  int
		accepted                int
		code                    client.ProblemCode
		title                   string
		wait                    time.Duration
	}{
		{"all durable", "application/json", `{"accepted":2,"rejected":0,"ids":["a","b"],"ack":"stream"}`, 202, 2, "", "", 0},
		{"some durable", "application/json", `{"accepted":1,"rejected":1,"ids":["a",null],"ack":"spool","errors":[]}`, 207, 1, "", "", 0},
		{"a problem", "application/problem+json", problem, 429, 0, client.ProblemCodeRateLimited, "T", 7 * time.Second},
		{"a page of a proxy", "text/html", "<h1>Bad Gateway</h1>", 502, 0, "", "Bad Gateway", 0},
		{"nothing", "", "", 504, 0, "", "Gateway Timeout", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if got := r.Header.Get("Authorization"); got != "Bearer wk_1" {
					t.Errorf("the key is %q", got)
				}
				if tt.wait > 0 {
					w.Header().Set("Retry-After", fmt.Sprint(tt.wait.Seconds()))
				}
				w.Header().Set("Content-Type", tt.contentType)
				w.WriteHeader(tt.status)
				fmt.Fprint(w, tt.body)
			}))
			defer gateway.Close()
			c, err := client.NewClientWithResponses(gateway.URL, client.WithKey("wk_1"))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := c.SendEventsWithResponse(t.Context(), nil, client.EventBatch{Events: []client.Event{{Name: "a"}}})
			if err != nil {
				t.Fatal(err)
			}
			if a := resp.Accepted(); a == nil && tt.accepted > 0 || a != nil && a.Accepted != tt.accepted {
				t.Errorf("accepted %+v, want %d", a, tt.accepted)
			}
			if p := resp.Problem(); p == nil && tt.title != "" || p != nil && (p.Code != tt.code || p.Title != tt.title || p.Status != tt.status) {
				t.Errorf("the problem is %+v, want %d %s %s", p, tt.status, tt.code, tt.title)
			}
			if got := resp.RetryAfter(); got != tt.wait {
				t.Errorf("wait %v, want %v", got, tt.wait)
			}
		})
	}
}
