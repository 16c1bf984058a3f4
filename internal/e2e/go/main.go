// Program go makes the calls in the file SLUICE_CALLS with analytics-go,
// unmodified, once to each of SLUICE_RUNS, and prints what it says of them; see
// ../node/send.mjs. It is a module of its own, so that the SDK is no dependency
// of ours.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"sync"
	"time"

	"github.com/segmentio/analytics-go/v3"
)

type run struct{ Host, Key string }

type call struct {
	Call                                                  string
	N                                                     int
	Event, Name, UserID, AnonymousID, GroupID, PreviousID string
	Timestamp                                             time.Time
	Properties, Traits                                    map[string]any
	Context                                               map[string]any
}

// belief collects what the SDK says of messages, by the numbers of their calls.
type belief struct {
	Delivered []int `json:"delivered"`
	Failed    []int `json:"failed"`

	mu      sync.Mutex
	numbers map[string]int
	open    sync.WaitGroup
}

func (b *belief) Success(m analytics.Message) { b.note(m, &b.Delivered) }

func (b *belief) Failure(m analytics.Message, err error) {
	log.Print(err)
	b.note(m, &b.Failed)
}

func (b *belief) note(m analytics.Message, list *[]int) {
	text, err := json.Marshal(m)
	if err != nil {
		log.Fatal(err)
	}
	var id struct{ MessageID string }
	if err := json.Unmarshal(text, &id); err != nil {
		log.Fatal(err)
	}
	b.mu.Lock()
	*list = append(*list, b.numbers[id.MessageID])
	b.mu.Unlock()
	b.open.Done()
}

func main() {
	var runs []run
	if err := json.Unmarshal([]byte(os.Getenv("SLUICE_RUNS")), &runs); err != nil {
		log.Fatal(err)
	}
	var calls []call
	text, err := os.ReadFile(os.Getenv("SLUICE_CALLS"))
	if err == nil {
		err = json.Unmarshal(text, &calls)
	}
	if err != nil {
		log.Fatal(err)
	}
	beliefs := make([]*belief, len(runs))
	var all sync.WaitGroup
	for i, r := range runs {
		all.Go(func() { beliefs[i] = send(i, r, calls) })
	}
	all.Wait()
	out, err := json.Marshal(beliefs)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(out))
}

// send makes the calls and waits until the SDK has said something of each: it
// drops what it has when it is closed.
func send(i int, r run, calls []call) *belief {
	b := &belief{numbers: map[string]int{}}
	client, err := analytics.NewWithConfig(r.Key, analytics.Config{
		Endpoint: r.Host, BatchSize: 4, Interval: 50 * time.Millisecond, Callback: b,
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, c := range calls {
		id := fmt.Sprintf("go-%d-%d-%d", time.Now().UnixNano(), i, c.N)
		b.mu.Lock()
		b.numbers[id] = c.N
		b.mu.Unlock()
		b.open.Add(1)
		if err := client.Enqueue(c.message(id)); err != nil {
			log.Fatal(err)
		}
	}
	b.open.Wait()
	if err := client.Close(); err != nil {
		log.Fatal(err)
	}
	return b
}

func (c call) message(id string) analytics.Message {
	var context *analytics.Context
	if c.Context != nil {
		context = &analytics.Context{Extra: c.Context}
	}
	switch c.Call {
	case "identify":
		return analytics.Identify{MessageId: id, UserId: c.UserID, AnonymousId: c.AnonymousID, Traits: c.Traits, Timestamp: c.Timestamp, Context: context}
	case "page":
		return analytics.Page{MessageId: id, UserId: c.UserID, AnonymousId: c.AnonymousID, Name: c.Name, Properties: c.Properties, Timestamp: c.Timestamp, Context: context}
	case "screen":
		return analytics.Screen{MessageId: id, UserId: c.UserID, AnonymousId: c.AnonymousID, Name: c.Name, Properties: c.Properties, Timestamp: c.Timestamp, Context: context}
	case "group":
		return analytics.Group{MessageId: id, UserId: c.UserID, GroupId: c.GroupID, Traits: c.Traits, Timestamp: c.Timestamp, Context: context}
	case "alias":
		return analytics.Alias{MessageId: id, UserId: c.UserID, PreviousId: c.PreviousID, Timestamp: c.Timestamp, Context: context}
	}
	return analytics.Track{MessageId: id, UserId: c.UserID, AnonymousId: c.AnonymousID, Event: c.Event, Properties: c.Properties, Timestamp: c.Timestamp, Context: context}
}
