package lambdatest_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/lambdatest"
)

func TestInvokeOverHTTP(t *testing.T) {
	var c calls
	do := c.handler(func(_ int, payload string) (string, error) {
		if payload == `"fail"` {
			return "", errBroken
		}
		return `"done"`, nil
	})
	config := lambdatest.Config{Functions: []lambdatest.Function{{
		Name: "f", Aliases: map[string]string{"prod": "7"}, Handler: do, Async: lambdatest.Async{MaximumRetryAttempts: new(0)},
	}}}
	inBubble(t, config, func(t *testing.T, r *rig) {
		sync6, async1 := `"`+strings.Repeat("x", 6<<20-2)+`"`, `"`+strings.Repeat("x", 1<<20-2)+`"`
		for _, test := range []struct {
			name, path, kind, payload string
			status                    int
			code                      string // of an error
			body                      string
			ran                       bool
		}{
			{"an event", "f", "Event", `{"a":1}`, 202, "", "", true},
			{"an event by an ARN with an alias", "arn:aws:lambda:us-east-1:123456789012:function:f:prod", "Event", `{"a":1}`, 202, "", "", true},
			{"by an ARN that is escaped", "arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Af%3Aprod", "Event", `{"a":1}`, 202, "", "", true},
			{"synchronously", "f", "RequestResponse", `{"a":1}`, 200, "", `"done"`, true},
			{"synchronously by default", "f", "", `{"a":1}`, 200, "", `"done"`, true},
			{"nothing is an empty object", "f", "", "", 200, "", `"done"`, true},
			{"a dry run", "f", "DryRun", `{}`, 204, "", "", false},
			{"a function that fails", "f", "RequestResponse", `"fail"`, 200, "", `{"errorMessage":"the sink is broken","errorType":"*errors.errorString"}`, true},
			{"an event that fails", "f", "Event", `"fail"`, 202, "", "", true},
			{"the largest event", "f", "Event", async1, 202, "", "", true},
			{"too large an event", "f", "Event", async1 + " ", 413, "RequestEntityTooLargeException", `{"Message":"1048577 byte payload is too large for the Event invocation type (limit 1048576 bytes)","Type":"User"}`, false},
			{"the largest", "f", "RequestResponse", sync6, 200, "", `"done"`, true},
			{"too large", "f", "RequestResponse", sync6 + " ", 413, "RequestTooLargeException", `{"Message":"Request must be smaller than 6291456 bytes for the InvokeFunction operation","Type":"User"}`, false},
			{"far too large", "f", "RequestResponse", sync6 + strings.Repeat(" ", 4096), 413, "RequestTooLargeException", `{"Message":"Request must be smaller than 6291456 bytes for the InvokeFunction operation","Type":"User"}`, false},
			{"no JSON", "f", "Event", `{"a":`, 400, "InvalidRequestContentException", `{"Message":"Could not parse request body into json: Could not parse payload into json","Type":"User"}`, false},
			{"no such function", "g", "Event", `{}`, 404, "ResourceNotFoundException", `{"Message":"Function not found: arn:aws:lambda:us-east-1:123456789012:function:g","Type":"User"}`, false},
			{"no such alias", "f:beta", "Event", `{}`, 404, "ResourceNotFoundException", `{"Message":"Function not found: arn:aws:lambda:us-east-1:123456789012:function:f:beta","Type":"User"}`, false},
			{"a kind that there is not", "f", "Later", `{}`, 400, "InvalidParameterValueException", "", false},
		} {
			before := len(c.all())
			a := r.call(invocationsOf(test.path), test.kind, test.payload)
			r.drain()
			if a.err != nil || a.status != test.status || a.header.Get("X-Amzn-Errortype") != test.code || test.body != "" && a.body != test.body {
				t.Errorf("%s: %d %.300s %v", test.name, a.status, a.body, a.err)
				continue
			}
			if ran := len(c.all()) > before; ran != test.ran {
				t.Errorf("%s: ran: %t", test.name, ran)
			}
			if a.status == 200 && (a.header.Get("X-Amz-Executed-Version") != "$LATEST" || (a.header.Get("X-Amz-Function-Error") == "Unhandled") != (test.payload == `"fail"`)) {
				t.Errorf("%s: %v", test.name, a.header)
			}
			if ids := c.ids; test.ran && a.header.Get("X-Amzn-Requestid") != ids[len(ids)-1] {
				t.Errorf("%s: the request ids differ", test.name)
			}
		}
		time.Sleep(time.Second) // the connection of the one that is far too large lingers
		if last := c.all()[6]; last != `{}` && !slices.Contains(c.all(), `{}`) {
			t.Error("nothing was no empty object")
		}
	})
}

func TestTheQualifierIsAParameterToo(t *testing.T) {
	var c calls
	inBubble(t, lambdatest.Config{Functions: []lambdatest.Function{{Name: "f", Aliases: map[string]string{"prod": "7"}, Handler: c.handler(succeeds)}}}, func(t *testing.T, r *rig) {
		for path, want := range map[string]string{
			invocationsOf("f") + "?Qualifier=prod":      "7",
			invocationsOf("f:prod") + "?Qualifier=prod": "7",
			invocationsOf("f:prod") + "?Qualifier=7":    "InvalidParameterValueException",
			invocationsOf("f") + "?Qualifier=beta":      "ResourceNotFoundException",
		} {
			a := r.call(path, "", "{}")
			if got := a.header.Get("X-Amz-Executed-Version") + a.header.Get("X-Amzn-Errortype"); got != want {
				t.Errorf("%s: %s, want %s", path, got, want)
			}
		}
	})
}

func TestOnlyASignedInvokeIsServed(t *testing.T) {
	var c calls
	inBubble(t, lambdatest.Config{Region: "us-east-1", Functions: []lambdatest.Function{{Name: "f", Handler: c.handler(succeeds)}}}, func(t *testing.T, r *rig) {
		for name, test := range map[string]struct {
			change func(*http.Request)
			status int
		}{
			"signed":              {func(*http.Request) {}, 200},
			"not signed":          {func(r *http.Request) { r.Header.Del("Authorization") }, 403},
			"something else":      {func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }, 403},
			"without a time":      {func(r *http.Request) { r.Header.Del("X-Amz-Date") }, 403},
			"for SQS":             {func(r *http.Request) { sign(r, "sqs", "us-east-1", time.Now()) }, 403},
			"for another region":  {func(r *http.Request) { sign(r, "lambda", "eu-west-1", time.Now()) }, 403},
			"six minutes ago":     {func(r *http.Request) { sign(r, "lambda", "us-east-1", time.Now().Add(-6*time.Minute)) }, 403},
			"in six minutes":      {func(r *http.Request) { sign(r, "lambda", "us-east-1", time.Now().Add(6*time.Minute)) }, 403},
			"four minutes ago":    {func(r *http.Request) { sign(r, "lambda", "us-east-1", time.Now().Add(-4*time.Minute)) }, 200},
			"another method":      {func(r *http.Request) { r.Method = http.MethodGet }, 404},
			"another path":        {func(r *http.Request) { r.URL.Path = "/2015-03-31/functions/f" }, 404},
			"not the API's paths": {func(r *http.Request) { r.URL.Path = "/f/invocations" }, 404},
		} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.URL()+invocationsOf("f"), strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			sign(request, "lambda", "us-east-1", time.Now())
			test.change(request)
			resp, err := r.http.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != test.status {
				t.Errorf("%s: %d", name, resp.StatusCode)
			}
		}
	})
}

// Every fault of a call with what the caller sees and whether the event is run.
// Where there is no answer, a caller cannot know.
func TestFaultsOfCallsAsTheCallerSeesThem(t *testing.T) {
	var c calls
	config := lambdatest.Config{Functions: []lambdatest.Function{{Name: "f", Handler: c.handler(succeeds)}, {Name: "g", Handler: c.handler(succeeds)}}}
	inBubble(t, config, func(t *testing.T, r *rig) {
		for _, test := range []struct {
			name   string
			fault  lambdatest.Fault
			status int // 0 is no answer
			code   string
			ran    bool
			took   time.Duration
		}{
			{"none for this function", lambdatest.Calls(lambdatest.ServiceFailure).On("g"), 202, "", true, 0},
			{"throttled", lambdatest.Calls(lambdatest.CallerThrottled), 429, "TooManyRequestsException", false, 0},
			{"a failure of the service", lambdatest.Calls(lambdatest.ServiceFailure), 500, "ServiceException", false, 0},
			{"a failure, it seems", lambdatest.Calls(lambdatest.ServiceFailure).Stored(), 500, "ServiceException", true, 0},
			{"unavailable", lambdatest.Calls(lambdatest.Unavailable), 503, "ServiceUnavailableException", false, 0},
			{"not allowed", lambdatest.Calls(lambdatest.AccessDenied), 403, "AccessDeniedException", false, 0},
			{"closed before", lambdatest.Disconnect(lambdatest.BeforeAccepting), 0, "", false, 0},
			{"closed after", lambdatest.LostAnswer(), 0, "", true, 0},
			{"hangs before", lambdatest.Hang(lambdatest.BeforeAccepting), 0, "", false, time.Minute},
			{"hangs after", lambdatest.Hang(lambdatest.AfterAccepting), 0, "", true, time.Minute},
			{"slow", lambdatest.Delay(10 * time.Second), 202, "", true, 10 * time.Second},
			{"too slow", lambdatest.Delay(2 * time.Minute), 0, "", true, time.Minute},
			{"the first of several refusals", lambdatest.Calls(lambdatest.Unavailable), 503, "ServiceUnavailableException", false, 0},
		} {
			trouble := r.Fail(test.fault)
			if test.name == "the first of several refusals" {
				r.Fail(lambdatest.Calls(lambdatest.AccessDenied))
			}
			before, began := len(c.all()), time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			a := r.callWith(ctx, invocationsOf("f"), "Event", "{}")
			cancel()
			if a.status != test.status || (a.err != nil) != (test.status == 0) || a.header.Get("X-Amzn-Errortype") != test.code {
				t.Errorf("%s: %d %s %v", test.name, a.status, a.body, a.err)
			}
			if took := time.Since(began); took != test.took {
				t.Errorf("%s: took %s", test.name, took)
			}
			if test.status == 429 && (a.header.Get("Retry-After") != "1" || a.body != `{"Reason":"CallerRateLimitExceeded","Type":"User","message":"Rate exceeded"}`) {
				t.Errorf("%s: %s, retry after %s", test.name, a.body, a.header.Get("Retry-After"))
			}
			time.Sleep(5 * time.Minute) // for what is accepted after its caller left
			r.drain()
			if ran := len(c.all()) > before; ran != test.ran {
				t.Errorf("%s: it ran: %t", test.name, ran)
			}
			if want := 1; test.name == "none for this function" && trouble.Hits() != 0 || test.name != "none for this function" && trouble.Hits() != want {
				t.Errorf("%s: %d hits", test.name, trouble.Hits())
			}
			r.Heal()
			if a := r.call(invocationsOf("f"), "Event", "{}"); a.status != 202 {
				t.Errorf("%s, healed: %d %s", test.name, a.status, a.body)
			}
			r.drain()
		}
	})
}

func TestAFaultStrikesTheCallsItIsAbout(t *testing.T) {
	var c calls
	inBubble(t, lambdatest.Config{Functions: []lambdatest.Function{{Name: "f", Handler: c.handler(succeeds)}}}, func(t *testing.T, r *rig) {
		fault := lambdatest.Calls(lambdatest.Unavailable)
		for name, test := range map[string]struct {
			fault lambdatest.Fault
			want  string
		}{
			"always":          {fault, "xxxxxx"},
			"times":           {fault.Times(2), "xx...."},
			"after":           {fault.After(2), "..xxxx"},
			"after and times": {fault.After(1).Times(3), ".xxx.."},
			"for":             {fault.For(3 * time.Second), "xxx..."},
			"when":            {fault.When(func(n int) bool { return n%2 == 0 }), ".x.x.x"},
		} {
			for _, fail := range []func(lambdatest.Fault) *lambdatest.Trouble{r.Fail, r.FailRuns} {
				trouble := fail(test.fault)
				var got strings.Builder
				for range 6 {
					if r.call(invocationsOf("f"), "RequestResponse", "{}").status == 200 {
						got.WriteByte('.')
					} else {
						got.WriteByte('x')
					}
					time.Sleep(time.Second)
				}
				if got.String() != test.want || trouble.Hits() != strings.Count(test.want, "x") {
					t.Errorf("%s: %s, %d hits, want %s", name, &got, trouble.Hits(), test.want)
				}
				trouble.Off()
				trouble.Off()
			}
		}
		if stats := r.Stats("f"); stats.Refused != 21 || stats.Throttles != 0 { // runs, and not calls
			t.Errorf("%+v", stats)
		}
	})
}

func TestACallGoesOnWhenItsFaultIsSwitchedOff(t *testing.T) {
	var c calls
	inBubble(t, lambdatest.Config{Functions: []lambdatest.Function{{Name: "f", Handler: c.handler(succeeds)}}}, func(t *testing.T, r *rig) {
		for _, fault := range []lambdatest.Fault{lambdatest.Hang(lambdatest.BeforeAccepting), lambdatest.Hang(lambdatest.AfterAccepting), lambdatest.Delay(time.Hour)} {
			trouble := r.Fail(fault)
			status := make(chan int)
			go func() { status <- r.call(invocationsOf("f"), "Event", "{}").status }()
			synctest.Wait()
			trouble.Off()
			if got := <-status; got != 202 {
				t.Errorf("%d", got)
			}
		}
	})
}
