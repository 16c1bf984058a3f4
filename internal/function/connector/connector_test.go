package connector_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
	"github.com/eventsluice/sluice/internal/cloud/sqstest"
	"github.com/eventsluice/sluice/internal/connector"
	"github.com/eventsluice/sluice/internal/event"
)

// bubble runs a test in a bubble, with a rig.
func bubble(t *testing.T, environ []string, test func(t *testing.T, r *rig)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { test(t, newRig(t, environ...)) })
}

func TestAnEventIsDelivered(t *testing.T) {
	bubble(t, env(), func(t *testing.T, r *rig) {
		c, err := r.invoke(one("e1", "u1"))
		if want := (counts{Events: 1, Delivered: 1}); err != nil || c != want || !slices.Equal(r.conn.Order(), []string{"e1"}) {
			t.Errorf("%v, %+v, %v", err, c, r.conn.Order())
		}
		const want = `"Program":"crm","Events":1,"Delivered":1,"Dropped":0,"Waiting":0,"DeadLetters":0,"Failed":0,"Residual":0}` + "\n"
		if got := r.metrics.String(); !strings.HasPrefix(got, `{"_aws":`) || !strings.HasSuffix(got, want) || strings.Count(got, "\n") != 1 {
			t.Errorf("metrics %s", got)
		}
		if got := r.log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `"msg":"invocation"`) || strings.Contains(got, "u1") {
			t.Errorf("log %s", got)
		}
	})
}

// Payloads: what comes, what the destination gets, what is dead.
func TestEveryPayloadIsUnderstood(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		payload string
		want    counts
		order   string
		raw     string // of the dead letter
	}{
		"an event":                       {one("e1", "u1"), counts{Events: 1, Delivered: 1}, "e1", ""},
		"an array":                       {many(one("e1", "u1"), one("e2", "u1")), counts{Events: 2, Delivered: 2}, "e1 e2", ""},
		"an empty array":                 {" [ ] ", counts{}, "", ""},
		"an array with a foreign body":   {many(one("e1", "u1"), `{"no":"name"}`, one("e3", "u1")), counts{Events: 3, Delivered: 2, Dead: 1}, "e1 e3", `{"no":"name"}`},
		"no JSON":                        {"\x00\xff", counts{Events: 1, Dead: 1}, "", "\x00\xff"},
		"half an array":                  {`[{"name":"a"}`, counts{Events: 1, Dead: 1}, "", `[{"name":"a"}`},
		"a number":                       {"7", counts{Events: 1, Dead: 1}, "", "7"},
		"nothing":                        {"", counts{Events: 1, Dead: 1}, "", ""},
		"Records of another service":     {`{"Records":[{"eventSource":"aws:s3"}]}`, counts{Events: 1, Dead: 1}, "", `{"Records":[{"eventSource":"aws:s3"}]}`},
		"an event that claims":           {`{"id":"e1","name":"a","claim":{"bucket":"b","key":"k"}}`, counts{Events: 1, Delivered: 1}, "e1", ""},
		"a letter that has waited":       {`{"id":"e1","destination":"crm","class":"retryable","attempts":2,"event":` + one("e1", "u1") + `}`, counts{Events: 1, Delivered: 1}, "e1", ""},
		"a letter for another":           {`{"id":"e1","destination":"erp","class":"retryable","attempts":2,"event":` + one("e1", "u1") + `}`, counts{Events: 1, Dead: 1}, "", ""},
		"a letter with bytes":            {`{"id":"x","destination":"crm","class":"permanent","attempts":0,"raw":"/w=="}`, counts{Events: 1, Dead: 1}, "", "\xff"},
		"an event that looks a letter":   {`{"id":"e1","name":"n","destination":"erp","class":"x","attempts":1,"event":{}}`, counts{Events: 1, Delivered: 1}, "e1", ""},
		"a claim of an object not there": {`{"claim":{"bucket":"claims","key":"gone","bytes":1,"sha256":"00"}}`, counts{Events: 1, Dead: 1}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, env(), func(t *testing.T, r *rig) {
				got, err := r.invoke(c.payload)
				if err != nil || got != c.want {
					t.Errorf("%v, %+v, want %+v", err, got, c.want)
				}
				if order := strings.Join(r.conn.Order(), " "); order != c.order {
					t.Errorf("delivered %q, want %q", order, c.order)
				}
				letters := r.letters(dead)
				if len(letters) != c.want.Dead {
					t.Fatalf("%d dead letters", len(letters))
				}
				for _, l := range letters {
					if string(l.Raw) != c.raw || l.ID == "" || l.Class != "permanent" || l.Message == "" {
						t.Errorf("%+v", l)
					}
				}
			})
		})
	}
}

func TestAClaimIsRedeemed(t *testing.T) {
	bubble(t, env(), func(t *testing.T, r *rig) {
		payload := []byte(many(one("e1", "u1"), one("e2", "u2")))
		r.put("big", payload)
		claim := event.NewClaim(bucket, "big", payload)
		if c, err := r.invoke(string(claim.Payload())); err != nil || c.Delivered != 2 {
			t.Errorf("%v, %+v", err, c)
		}
		// The object has been changed since.
		claim.SHA256 = strings.Repeat("0", 64)
		c, err := r.invoke(string(claim.Payload()))
		letters := r.letters(dead)
		if err != nil || c.Dead != 1 || len(letters) != 1 {
			t.Fatalf("%v, %+v, %d letters", err, c, len(letters))
		}
		if l := letters[0]; l.Claim == nil || *l.Claim != claim || l.Code != "claim" || !strings.Contains(l.Message, "big") || l.Destination != "crm" {
			t.Errorf("%+v", l)
		}
	})
}

// An event that must wait longer than a nap goes to the retry queue, with all
// that is known, and comes back when its time is.
func TestALongWaitGoesToTheRetryQueue(t *testing.T) {
	bubble(t, env(), func(t *testing.T, r *rig) {
		answers{"e1": {result(connector.Retryable, 10*time.Minute), delivered}}.on(r.conn)
		start := time.Now()
		c, err := r.invoke(many(one("e1", "u1"), one("e2", "u1"), one("e3", "u2")))
		if want := (counts{Events: 3, Delivered: 1, Waiting: 2}); err != nil || c != want {
			t.Fatalf("%v, %+v", err, c)
		}
		if !time.Now().Equal(start) {
			t.Errorf("it slept for %v", time.Since(start))
		}
		waiting := r.letters(retry)
		if len(waiting) != 2 {
			t.Fatalf("%d letters wait", len(waiting))
		}
		l := waiting[0]
		wait := l.NotBefore.Sub(start)
		if l.EventID != "e1" || l.Attempts != 1 || len(l.Tries) != 1 || l.Class != "retryable" || l.Status != 503 || l.Request != "POST /" || l.Response != "busy" ||
			l.Connector != "double@1" || l.Destination != "crm" || string(l.Event) != one("e1", "u1") || !l.FirstSeen.Equal(start) || wait < 10*time.Minute || wait > 11*time.Minute {
			t.Errorf("waits %v: %+v", wait, l)
		}
		if h := waiting[1]; h.EventID != "e2" || h.Attempts != 0 || h.Class != "held" || !h.NotBefore.Equal(l.NotBefore) {
			t.Errorf("behind it: %+v", h)
		}
		if m := r.sqs.Messages(retry)[0]; m.Attributes["Destination"].StringValue != "crm" || m.Attributes["Class"].StringValue != "retryable" || m.Attributes["EventName"].StringValue != "bought" {
			t.Errorf("attributes %v", m.Attributes)
		}
		if n, _ := r.poll(retry, 10); n != 0 {
			t.Errorf("%d messages came at once", n)
		}
		time.Sleep(wait + time.Second)
		if n, reported := r.poll(retry, 10); n != 2 || len(reported) > 0 {
			t.Errorf("%d came back, %v reported", n, reported)
		}
		if got := r.conn.Order(); !slices.Equal(got, []string{"e3", "e1", "e2"}) {
			t.Errorf("order %v", got)
		}
	})
}

// SQS delays by at most 15 minutes. What comes before its time is put off, by its
// visibility, and not tried.
func TestAMessageThatComesEarlyIsPutOff(t *testing.T) {
	bubble(t, env(), func(t *testing.T, r *rig) {
		answers{"e1": {result(connector.Retryable, 20*time.Hour), delivered}}.on(r.conn)
		if _, err := r.invoke(one("e1", "u1")); err != nil {
			t.Fatal(err)
		}
		notBefore := r.letters(retry)[0].NotBefore
		polls := 0
		for len(r.conn.Order()) == 0 {
			if err := r.sqs.Wait(t.Context(), retry); err != nil {
				t.Fatal(err)
			}
			if polls++; polls > 10 {
				t.Fatal("it comes again and again")
			}
			n, reported := r.poll(retry, 10)
			if early := time.Now().Before(notBefore); n != 1 || early != (len(reported) == 1) {
				t.Errorf("%v before its time: %d messages, %v reported", time.Until(notBefore), n, reported)
			}
		}
		if late := time.Since(notBefore); late < 0 || late > 2*time.Second || r.conn.Calls() != 2 || polls != 3 {
			t.Errorf("delivered %v late after %d calls and %d polls", late, r.conn.Calls(), polls)
		}
	})
}

func TestWithoutARetryQueueItSleepsAsLongAsTimeAllows(t *testing.T) {
	environ := []string{"CONNECTOR=double", "AWS_LAMBDA_FUNCTION_NAME=crm", "DEAD_LETTER_QUEUE=https://sqs.us-east-1.amazonaws.com/123456789012/" + dead}
	bubble(t, environ, func(t *testing.T, r *rig) {
		answers{"e1": {result(connector.Retryable, 30*time.Second), delivered}, "e2": {result(connector.Retryable, 10*time.Minute), delivered}}.on(r.conn)
		start := time.Now()
		if c, err := r.invoke(one("e1", "u1")); err != nil || c.Delivered != 1 || time.Since(start) < 30*time.Second {
			t.Errorf("%v, %+v after %v", err, c, time.Since(start))
		}
		c, err := r.invoke(one("e2", "u1"))
		if err != nil || c.Dead != 1 {
			t.Fatalf("%v, %+v", err, c)
		}
		if l := r.letters(dead)[0]; l.Class != "retryable" || l.Attempts != 1 || !strings.Contains(l.Message, "because; ") || !strings.Contains(l.Message, "RETRY_QUEUE") || len(l.Tries) != 1 {
			t.Errorf("%+v", l)
		}
	})
}

func TestWhatIsGivenUpIsADeadLetter(t *testing.T) {
	bubble(t, env("RETRY_MAX_ATTEMPTS=3"), func(t *testing.T, r *rig) {
		answers{"e1": {result(connector.Permanent, 0)}, "e2": {result(connector.Retryable, time.Minute)}}.on(r.conn)
		if c, err := r.invoke(many(one("e1", "u1"), one("e2", "u2"))); err != nil || c != (counts{Events: 2, Dead: 1, Waiting: 1}) {
			t.Fatalf("%v, %+v", err, c)
		}
		for len(r.sqs.Messages(retry)) > 0 {
			if err := r.sqs.Wait(t.Context(), retry); err != nil {
				t.Fatal(err)
			}
			r.poll(retry, 10)
		}
		letters := r.letters(dead)
		if len(letters) != 2 || letters[0].EventID != "e1" || letters[0].Attempts != 1 || letters[1].EventID != "e2" || letters[1].Attempts != 3 || len(letters[1].Tries) != 3 {
			t.Errorf("%+v", letters)
		}
	})
}

// The three outcomes of a write, for the waiting room and for the grave: what is
// stored is stored once, what is not is given to the next that can keep it, what
// is unknown is kept twice rather than not at all.
func TestEveryOutcomeOfAWriteKeepsTheEvent(t *testing.T) {
	t.Parallel()
	const send = "SendMessageBatch"
	// roomOnly strikes at what is sent to the retry queue.
	for name, c := range map[string]struct {
		result  connector.Result
		fault   awstest.Fault
		queue   string // where it strikes
		waiting [2]int // least and most copies
		dead    [2]int
		fails   bool
	}{
		"waiting, stored at the second attempt":   {result(connector.Retryable, time.Hour), awstest.Calls(awstest.Throttling).On(send).Times(1), retry, [2]int{1, 1}, [2]int{0, 0}, false},
		"waiting, and the answer is lost once":    {result(connector.Retryable, time.Hour), awstest.Disconnect(awstest.AfterStoring).On(send).Times(1), retry, [2]int{2, 2}, [2]int{0, 0}, false},
		"waiting, and the first half of it once":  {result(connector.Retryable, time.Hour), awstest.CutAnswer().On(send).Times(1), retry, [2]int{2, 2}, [2]int{0, 0}, false},
		"waiting, left out of the answer once":    {result(connector.Retryable, time.Hour), sqstest.Unanswered(1).Times(1), retry, [2]int{1, 1}, [2]int{0, 0}, false},
		"waiting is refused for good":             {result(connector.Retryable, time.Hour), awstest.Calls(sqstest.NoQueue).On(send).Times(1), retry, [2]int{0, 0}, [2]int{1, 1}, false},
		"waiting fails as an entry for good":      {result(connector.Retryable, time.Hour), sqstest.Entries(1, sqstest.BadReceipt).Times(1), retry, [2]int{0, 0}, [2]int{1, 1}, false},
		"dead, stored at the second attempt":      {result(connector.Permanent, 0), awstest.Calls(awstest.Internal).On(send).Times(1), dead, [2]int{0, 0}, [2]int{1, 1}, false},
		"dead, and the answer is lost once":       {result(connector.Permanent, 0), awstest.Disconnect(awstest.AfterStoring).On(send).Times(1), dead, [2]int{0, 0}, [2]int{2, 2}, false},
		"dead is refused for good":                {result(connector.Permanent, 0), awstest.Calls(sqstest.NoQueue).On(send), dead, [2]int{0, 0}, [2]int{0, 0}, true},
		"dead, and nothing is stored for minutes": {result(connector.Permanent, 0), awstest.Calls(awstest.Unavailable).On(send), dead, [2]int{0, 0}, [2]int{0, 0}, true},
		"dead, and no answer comes":               {result(connector.Permanent, 0), awstest.Hang(awstest.AfterStoring).On(send), dead, [2]int{0, 0}, [2]int{1, 1}, true},
		"nothing can be stored, neither way":      {result(connector.Retryable, time.Hour), awstest.Hang(awstest.BeforeStoring).On(send), retry, [2]int{0, 0}, [2]int{0, 0}, true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, env(), func(t *testing.T, r *rig) {
				answers{"e1": {c.result}}.on(r.conn)
				r.sqs.Fail(c.fault)
				got, err := r.invoke(one("e1", "u1"))
				waiting, letters := len(r.letters(retry)), len(r.letters(dead))
				if (err != nil) != c.fails || waiting < c.waiting[0] || waiting > c.waiting[1] || letters < c.dead[0] || letters > c.dead[1] {
					t.Errorf("%+v, error %v, %d waiting, %d dead", got, err, waiting, letters)
				}
				if err != nil && !strings.Contains(r.log.String(), `"level":"ERROR"`) {
					t.Errorf("the log says %s", r.log)
				}
				if !strings.Contains(r.log.String(), `"residual":0`) {
					t.Errorf("the log says %s", r.log)
				}
			})
		})
	}
}

// A message whose event can neither wait nor be buried is reported, and the
// others of the batch are not.
func TestAMessageThatCannotBeKeptComesAgain(t *testing.T) {
	bubble(t, env(), func(t *testing.T, r *rig) {
		answers{"e2": {result(connector.Permanent, 0)}}.on(r.conn)
		for _, id := range []string{"e1", "e2", "e3"} {
			r.send(source, one(id, id), "")
		}
		trouble := r.sqs.Fail(awstest.Calls(sqstest.NoQueue).On("SendMessageBatch"))
		n, reported := r.poll(source, 10)
		if n != 3 || len(reported) != 1 || len(r.sqs.Messages(source)) != 1 {
			t.Fatalf("%d came, %v reported", n, reported)
		}
		trouble.Off()
		time.Sleep(visibility)
		if n, reported := r.poll(source, 10); n != 1 || len(reported) != 0 || len(r.letters(dead)) != 1 {
			t.Errorf("%d came again, %v reported, %d dead", n, reported, len(r.letters(dead)))
		}
	})
}

// Messages of a standard queue that must wait become letters in the retry queue.
func TestAMessageOfAStandardQueueWaitsAsALetter(t *testing.T) {
	bubble(t, env(), func(t *testing.T, r *rig) {
		answers{"e1": {result(connector.Retryable, time.Hour)}}.on(r.conn)
		sent := time.Now()
		r.send(source, many(one("e1", "u1"), one("e2", "u2")), "")
		time.Sleep(time.Second)
		if n, reported := r.poll(source, 10); n != 1 || len(reported) > 0 || len(r.sqs.Messages(source)) > 0 {
			t.Errorf("%d came, %v reported", n, reported)
		}
		letters := r.letters(retry)
		if len(letters) != 1 || letters[0].ARN != r.sqs.ARN(source) || letters[0].Attempts != 1 || !letters[0].FirstSeen.Equal(sent) {
			t.Errorf("%+v", letters)
		}
		if !slices.Equal(r.conn.Order(), []string{"e2"}) {
			t.Errorf("%v", r.conn.Order())
		}
	})
}

// In a FIFO queue a message waits where it is, with those behind it, so that
// order is kept. Its receives are its attempts.
func TestAMessageOfAFIFOQueueWaitsInItsPlace(t *testing.T) {
	bubble(t, env("RETRY_MAX_ATTEMPTS=3"), func(t *testing.T, r *rig) {
		answers{
			"a1": {result(connector.Retryable, 10*time.Minute), result(connector.Retryable, 5*time.Minute), delivered},
			"b1": {result(connector.Retryable, 10*time.Minute)},
		}.on(r.conn)
		for _, m := range []struct{ id, group string }{{"a1", "a"}, {"b1", "b"}, {"a2", "a"}, {"c1", "c"}, {"a3", "a"}, {"b2", "b"}} {
			r.send(fifo, one(m.id, "user of "+m.id), m.group)
		}
		start := time.Now()
		if n, reported := r.poll(fifo, 10); n != 6 || len(reported) != 5 {
			t.Fatalf("%d came, %d reported", n, len(reported))
		}
		if n, _ := r.poll(fifo, 10); n != 0 {
			t.Fatalf("%d came at once", n)
		}
		for len(r.sqs.Messages(fifo)) > 0 && time.Since(start) < time.Hour {
			if err := r.sqs.Wait(t.Context(), fifo); err != nil {
				t.Fatal(err)
			}
			r.poll(fifo, 10)
		}
		order := r.conn.Order()
		ofA := slices.DeleteFunc(slices.Clone(order), func(id string) bool { return id[0] != 'a' })
		if !slices.Equal(ofA, []string{"a1", "a2", "a3"}) || !slices.Contains(order, "c1") || !slices.Contains(order, "b2") {
			t.Errorf("order %v", order)
		}
		letters := r.letters(dead)
		if len(letters) != 1 || letters[0].EventID != "b1" || letters[0].Attempts != 3 || len(r.sqs.Messages(retry)) != 0 {
			t.Errorf("%+v", letters)
		}
		if took := time.Since(start); took < 15*time.Minute || took > 25*time.Minute {
			t.Errorf("it took %v", took)
		}
	})
}

// A FIFO message with several events is postponed as a whole; its dead letters
// are written once, when it comes for the last time.
func TestAFIFOMessageOfSeveralEventsIsBuriedOnce(t *testing.T) {
	bubble(t, env(), func(t *testing.T, r *rig) {
		answers{"e1": {result(connector.Permanent, 0)}, "e2": {result(connector.Retryable, time.Minute), result(connector.Retryable, time.Minute), delivered}}.on(r.conn)
		r.send(fifo, many(one("e1", "u1"), one("e2", "u1"), one("e3", "u1")), "g")
		for len(r.sqs.Messages(fifo)) > 0 {
			if err := r.sqs.Wait(t.Context(), fifo); err != nil {
				t.Fatal(err)
			}
			r.poll(fifo, 10)
		}
		if letters := r.letters(dead); len(letters) != 1 || !slices.Equal(r.conn.Order(), []string{"e2", "e3"}) {
			t.Errorf("%v, %+v", r.conn.Order(), letters)
		}
	})
}

// A message that SQS would soon delete is a dead letter instead, once it cannot
// be delivered.
func TestAnOldMessageIsADeadLetterRatherThanGone(t *testing.T) {
	bubble(t, env(), func(t *testing.T, r *rig) {
		answers{"a1": {result(connector.Retryable, time.Hour)}, "e2": {result(connector.Auth, 0)}}.on(r.conn)
		r.send(fifo, one("a1", "u1"), "g")
		r.send(fifo, one("a2", "u1"), "g")
		r.send(source, one("e1", "u1"), "")
		r.send(source, one("e2", "u1"), "")
		time.Sleep(13*24*time.Hour + time.Second)
		_, reportedF := r.poll(fifo, 10)
		_, reportedS := r.poll(source, 10)
		letters := r.letters(dead)
		if len(reportedF)+len(reportedS) > 0 || len(letters) != 3 || len(r.letters(retry)) != 0 || !slices.Equal(r.conn.Order(), []string{"e1"}) {
			t.Fatalf("%v, %v, %+v", reportedF, reportedS, letters)
		}
		for _, l := range letters {
			if l.Code != "too_old" || !strings.Contains(l.Message, "13 days") {
				t.Errorf("%+v", l)
			}
		}
	})
}

// Refused credentials: the batch is not sent, no attempt is counted.
func TestRefusedCredentialsKeepTheEvents(t *testing.T) {
	bubble(t, env(), func(t *testing.T, r *rig) {
		answers{"e1": {result(connector.Auth, 0)}}.on(r.conn)
		c, err := r.invoke(many(one("e1", "u1"), one("e2", "u2")))
		if err != nil || c != (counts{Events: 2, Waiting: 2}) || r.conn.Calls() != 1 {
			t.Fatalf("%v, %+v, %d calls", err, c, r.conn.Calls())
		}
		for _, l := range r.letters(retry) {
			if l.Attempts != 0 || time.Until(l.NotBefore) < 4*time.Minute {
				t.Errorf("%+v", l)
			}
		}
	})
}

// A secret that has been rotated is read again, at most once a minute.
func TestSecretsAreReadAgainWhenTheyAreRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := openRig(t)
		r.aws.SetSecret("crm", `{"token":"old"}`)
		r.start(env(`SETTINGS={"url":"x"}`, "SETTINGS_TOKEN=secretsmanager:crm#token")...)
		if r.aws.SecretReads() != 1 || string(r.made[0]) != `{"token":"old","url":"x"}` {
			t.Fatalf("%d reads, settings %s", r.aws.SecretReads(), r.made)
		}
		refuse := answers{"e1": {result(connector.Auth, 0), delivered}}
		refuse.on(r.conn)
		if c, _ := r.invoke(one("e1", "u1")); c.Waiting != 1 || r.aws.SecretReads() != 1 {
			t.Errorf("%+v, %d reads in the first minute", c, r.aws.SecretReads())
		}
		time.Sleep(time.Minute)
		refuse.on(r.conn)
		if c, _ := r.invoke(one("e1", "u1")); c.Waiting != 1 || r.aws.SecretReads() != 2 || len(r.made) != 1 {
			t.Errorf("%+v, %d reads, %d connectors with the same secret", c, r.aws.SecretReads(), len(r.made))
		}
		r.aws.SetSecret("crm", `{"token":"new"}`)
		time.Sleep(time.Minute)
		refuse.on(r.conn)
		if c, _ := r.invoke(one("e1", "u1")); c.Delivered != 1 || r.aws.SecretReads() != 3 || len(r.made) != 2 || string(r.made[1]) != `{"token":"new","url":"x"}` {
			t.Errorf("%+v, %d reads, settings %s", c, r.aws.SecretReads(), r.made)
		}
		r.aws.SetSecret("crm", `{"token":"bad"}`)
		time.Sleep(time.Minute)
		refuse.on(r.conn)
		if c, _ := r.invoke(one("e1", "u1")); c.Waiting != 1 || !strings.Contains(r.log.String(), "the connector cannot use") {
			t.Errorf("%+v, log %s", c, r.log)
		}
		if strings.Contains(r.log.String(), "new") {
			t.Errorf("the log holds a secret: %s", r.log)
		}
	})
}

// A letter that is too large for a message is kept in the bucket, without its
// history, and comes back from there.
func TestALetterThatIsTooLargeGoesThroughTheBucket(t *testing.T) {
	bubble(t, env(), func(t *testing.T, r *rig) {
		answers{"e1": {result(connector.Retryable, 10*time.Minute), result(connector.Permanent, 0)}}.on(r.conn)
		big := fmt.Sprintf(`{"id":"e1","name":"bought","user_id":"u1","data":{"text":%q}}`, strings.Repeat("x", 1<<20))
		if c, err := r.invoke(big); err != nil || c.Waiting != 1 {
			t.Fatalf("%v, %+v", err, c)
		}
		l := r.letters(retry)[0]
		if l.Claim == nil || l.Event != nil || l.Attempts != 1 || string(r.get(l.Claim.Key)) != big {
			t.Fatalf("%+v", l)
		}
		time.Sleep(15 * time.Minute)
		if n, reported := r.poll(retry, 10); n != 1 || len(reported) > 0 {
			t.Fatalf("%d came back, %v reported", n, reported)
		}
		if l := r.letters(dead)[0]; l.Claim == nil || l.Attempts != 2 || string(r.get(l.Claim.Key)) != big {
			t.Errorf("%+v", l)
		}
	})
}

// Without a bucket a letter loses its history to fit, and fails the invocation if
// it does not fit at all.
func TestWithoutABucketWhatFitsIsKept(t *testing.T) {
	environ := slices.DeleteFunc(env(), func(e string) bool { return strings.HasPrefix(e, "CLAIM_BUCKET") })
	bubble(t, environ, func(t *testing.T, r *rig) {
		long := result(connector.Permanent, 0)
		long.Response = strings.Repeat("r", 4<<10)
		answers{"e1": {long}, "e2": {long}}.on(r.conn)
		fits := fmt.Sprintf(`{"id":"e1","name":"bought","data":{"text":%q}}`, strings.Repeat("x", 1<<20-3000))
		if c, err := r.invoke(fits); err != nil || c.Dead != 1 {
			t.Fatalf("%v, %+v", err, c)
		}
		if l := r.letters(dead)[0]; string(l.Event) != fits || l.Request != "" || l.Tries != nil || l.Message == "" {
			t.Errorf("%d bytes, %q, %+v", len(l.Event), l.Message, l.Tries)
		}
		_, err := r.invoke(fmt.Sprintf(`{"id":"e2","name":"bought","data":{"text":%q}}`, strings.Repeat("x", 1<<20)))
		if err == nil || !strings.Contains(err.Error(), "CLAIM_BUCKET") || len(err.Error()) > 1000 {
			t.Errorf("%.500v", err)
		}
	})
}

// A bucket that does not answer fails the invocation: the events are not known.
func TestABucketThatIsAwayFailsTheInvocation(t *testing.T) {
	bubble(t, env(), func(t *testing.T, r *rig) {
		payload := []byte(one("e1", "u1"))
		r.put("big", payload)
		body := string(event.NewClaim(bucket, "big", payload).Payload())
		r.aws.StopS3(true)
		if _, err := r.invoke(body); err == nil || !strings.Contains(r.metrics.String(), `"Events":1,"Delivered":0,"Dropped":0,"Waiting":0,"DeadLetters":0,"Failed":1,"Residual":0`) {
			t.Errorf("%v, %s", err, r.metrics)
		}
		r.send(fifo, body, "g")
		r.send(fifo, one("e2", "u1"), "g")
		r.send(source, body, "")
		r.send(source, one("e3", "u1"), "")
		if _, reported := r.poll(fifo, 10); len(reported) != 2 || len(r.conn.Order()) > 0 {
			t.Errorf("%v reported, %v overtook", reported, r.conn.Order())
		}
		if _, reported := r.poll(source, 10); len(reported) != 1 || !slices.Equal(r.conn.Order(), []string{"e3"}) {
			t.Errorf("%v reported, %v", reported, r.conn.Order())
		}
		r.aws.StopS3(false)
		time.Sleep(visibility)
		r.poll(fifo, 10)
		if got := r.conn.Order(); !slices.Equal(got, []string{"e3", "e1", "e2"}) {
			t.Errorf("%v", got)
		}
	})
}

// An event without an id gets the same one whenever its message comes.
func TestAnEventWithoutAnIDKeepsTheOneItGets(t *testing.T) {
	bubble(t, env(), func(t *testing.T, r *rig) {
		r.send(source, many(`{"name":"a"}`, `{"name":"b"}`), "")
		messages := r.sqs.Receive(source, 1, visibility)
		for range 2 {
			if _, err := r.f.Handle(t.Context(), messageEvent(r.sqs.ARN(source), messages)); err != nil {
				t.Fatal(err)
			}
		}
		ids := r.conn.Order()
		if len(ids) != 4 || ids[0] != ids[2] || ids[1] != ids[3] || ids[0] == ids[1] {
			t.Errorf("%v", ids)
		}
	})
}

// The time of an invocation ends with its letters kept, whatever its timeout.
func TestItReturnsBeforeItsTimeout(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{3 * time.Second, 10 * time.Second, time.Minute, 15 * time.Minute} {
		t.Run(d.String(), func(t *testing.T) {
			bubble(t, env("AMBIGUOUS=retry"), func(t *testing.T, r *rig) {
				never := make(chan struct{})
				r.conn.Answer(stuck(never))
				c, err := r.invokeWithin(d, many(one("e1", "u1"), one("e2", "u2")))
				// A call that does not return takes a second more than its time.
				if err != nil || c.Waiting != 2 || len(r.letters(retry)) != 2 {
					t.Errorf("%v, %+v", err, c)
				}
				close(never)
			})
		})
	}
}

// Nothing that a caller could send ends in anything but an account that adds up.
func TestTheAnswerCountsWhatCame(t *testing.T) {
	bubble(t, env(), func(t *testing.T, r *rig) {
		answers{"e1": {{Class: connector.Dropped}}, "e2": {{Class: connector.Duplicate}}, "e3": {result(connector.Permanent, 0)}, "e4": {result(connector.Throttled, time.Hour)}}.on(r.conn)
		c, err := r.invoke(many(one("e1", "1"), one("e2", "2"), one("e3", "3"), one("e4", "4"), `[]`))
		if err != nil || c != (counts{Events: 5, Dropped: 1, Delivered: 1, Dead: 2, Waiting: 1}) {
			t.Errorf("%v, %+v", err, c)
		}
		var line struct{ Residual, DeadLetters int }
		if err := json.Unmarshal(r.metrics.Bytes(), &line); err != nil || line.Residual != 0 || line.DeadLetters != 2 {
			t.Errorf("%v, %s", err, r.metrics)
		}
	})
}
