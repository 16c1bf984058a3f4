package sqstest

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (c call) createQueue(in *createInput) (out any, err *Error) {
	c.locked(func() {
		set := defaults
		if old := c.queues[in.QueueName]; old != nil {
			set = old.settings // only what is given is compared
		}
		if fifo(in.QueueName) != (in.Attributes["FifoQueue"] == "true") {
			err = badValue("The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, must end with .fifo suffix and be 1 to 80 in length")
			return
		}
		if set, err = c.change(in.QueueName, set, in.Attributes); err != nil {
			return
		}
		err = c.addQueue(in.QueueName, set, in.Tags)
		out = urlOutput{c.QueueURL(in.QueueName)}
	})
	return out, err
}

func (c call) getQueueURL(in *nameInput) (out any, err *Error) {
	if in.QueueName == "" {
		return nil, missing("QueueName")
	}
	c.locked(func() {
		if c.queues[in.QueueName] == nil || in.QueueOwnerAWSAccountId != "" && in.QueueOwnerAWSAccountId != account {
			err = NoQueue
		}
		out = urlOutput{c.QueueURL(in.QueueName)}
	})
	return out, err
}

// queueAt returns the queue of a URL, whose host does not matter. The caller
// holds c.mu.
func (s *Server) queueAt(address string) (*queue, *Error) {
	if address == "" {
		return nil, missing("QueueUrl")
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || strings.Count(u.Path, "/") != 2 {
		return nil, &Error{Code: "InvalidAddress", Status: http.StatusNotFound, Message: "The address " + address + " is not valid for this endpoint."}
	}
	if !strings.HasPrefix(u.Path, "/"+account+"/") {
		return nil, NoQueue
	}
	return s.find(address)
}

func (c call) getQueueAttributes(in *attributesInput) (any, *Error) {
	out := attributesOutput{map[string]string{}}
	err := c.with(in.QueueUrl, func(q *queue) *Error {
		all := q.attributes()
		for _, name := range in.AttributeNames {
			switch value, ok := all[name]; {
			case name == "All":
				maps.Copy(out.Attributes, all)
			case ok:
				out.Attributes[name] = value
			case attributes[name].get == nil:
				return refuse("InvalidAttributeName", "Unknown Attribute %s.", name)
			}
		}
		return nil
	})
	return out, err
}

// attributes returns all that the queue has.
func (q *queue) attributes() map[string]string {
	all := map[string]string{
		"QueueArn":                              q.arn,
		"CreatedTimestamp":                      strconv.FormatInt(q.created.Unix(), 10),
		"LastModifiedTimestamp":                 strconv.FormatInt(q.modified.Unix(), 10),
		"ApproximateNumberOfMessages":           strconv.Itoa(len(q.messages) - q.due.Len()),
		"ApproximateNumberOfMessagesNotVisible": strconv.Itoa(q.inFlight),
		"ApproximateNumberOfMessagesDelayed":    strconv.Itoa(q.due.Len() - q.inFlight),
	}
	for name, a := range attributes {
		if value := a.get(&q.settings); value != "" && (q.fifo || !a.fifo) {
			all[name] = value
		}
	}
	return all
}

func (c call) setQueueAttributes(in *setAttributesInput) (any, *Error) {
	return nil, c.with(in.QueueUrl, func(q *queue) *Error {
		if _, ok := in.Attributes["FifoQueue"]; ok {
			return refuse("InvalidAttributeName", "Unknown Attribute FifoQueue.")
		}
		set, err := c.change(q.name, q.settings, in.Attributes)
		if err != nil {
			return err
		}
		q.configure(set, time.Now())
		return nil
	})
}

// configure gives a queue other settings. A new delay is for the messages of a
// FIFO queue that wait for theirs, and in a standard queue for later ones only.
// Source: developer guide, "Amazon SQS delay queues".
func (q *queue) configure(set settings, now time.Time) {
	if q.fifo && set.delay != q.delay {
		for _, m := range slices.Clone(q.due.items) {
			if m.state == Delayed {
				q.leave(m)
				m.visibleAt = m.sentAt.Add(set.delay)
				q.enter(m, Delayed)
			}
		}
	}
	q.settings, q.modified = set, now
	q.advance(now)
	q.signal()
}

func (c call) deleteQueue(in *queueRef) (any, *Error) {
	return nil, c.with(in.QueueUrl, func(q *queue) *Error {
		delete(c.queues, q.name)
		c.deleted[q.name] = time.Now()
		q.signal()
		return nil
	})
}

func (c call) purgeQueue(in *queueRef) (any, *Error) {
	return nil, c.with(in.QueueUrl, func(q *queue) *Error {
		now := time.Now()
		if !q.purged.IsZero() && now.Sub(q.purged) < afterDelete {
			return &Error{Code: "PurgeQueueInProgress", Status: http.StatusForbidden, Message: "Only one PurgeQueue operation on " + q.name + " is allowed every 60 seconds."}
		}
		q.purged = now
		q.purge()
		return nil
	})
}

func (c call) listQueues(in *listInput) (out any, err *Error) {
	c.locked(func() {
		var names []string
		for name := range c.queues {
			if strings.HasPrefix(name, in.QueueNamePrefix) {
				names = append(names, name)
			}
		}
		var page listOutput
		page.QueueUrls, page.NextToken, err = c.page(names, in)
		out = page
	})
	return out, err
}

func (c call) listDeadLetterSourceQueues(in *listInput) (any, *Error) {
	var page sourcesOutput
	err := c.with(in.QueueUrl, func(q *queue) (err *Error) {
		var names []string
		for name, other := range c.queues {
			if other.deadLetters == q.arn {
				names = append(names, name)
			}
		}
		page.QueueUrls, page.NextToken, err = c.page(names, in)
		return err
	})
	return page, err
}

// maxList is how many queues a listing has. Source: API reference, ListQueues.
const maxList = 1000

// page returns URLs of queues, sorted by name, from where the last page ended.
// The token is the name that it ended with, for whoever does not look. Without
// MaxResults there is one page.
func (c call) page(names []string, in *listInput) (urls []string, token string, err *Error) {
	most, ok := within(in.MaxResults, maxList, 1, maxList)
	if !ok {
		return nil, "", badValue("Value for parameter MaxResults is invalid. Reason: Must be an integer between 1 and %d, if provided", maxList)
	}
	slices.Sort(names)
	from, _ := slices.BinarySearch(names, in.NextToken+"\x00")
	if in.NextToken == "" {
		from = 0
	}
	urls = []string{}
	for _, name := range names[from:min(from+most, len(names))] {
		urls = append(urls, c.QueueURL(name))
	}
	if in.MaxResults != nil && from+most < len(names) {
		token = names[from+most-1]
	}
	return urls, token, nil
}

func (c call) tagQueue(in *tagInput) (any, *Error) {
	return nil, c.with(in.QueueUrl, func(q *queue) *Error {
		tags := maps.Clone(q.tags)
		if tags == nil {
			tags = map[string]string{}
		}
		maps.Copy(tags, in.Tags)
		q.tags = tags
		return nil
	})
}

func (c call) untagQueue(in *untagInput) (any, *Error) {
	return nil, c.with(in.QueueUrl, func(q *queue) *Error {
		tags := maps.Clone(q.tags)
		maps.DeleteFunc(tags, func(key, _ string) bool { return slices.Contains(in.TagKeys, key) })
		q.tags = tags
		return nil
	})
}

func (c call) listQueueTags(in *queueRef) (any, *Error) {
	var out tagsOutput
	err := c.with(in.QueueUrl, func(q *queue) *Error {
		out.Tags = q.tags
		return nil
	})
	return out, err
}
