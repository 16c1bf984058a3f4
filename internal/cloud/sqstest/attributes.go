package sqstest

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// attribute is one of a queue that can be set: from text, and back to it. An
// empty text says that a queue does not have it.
type attribute struct {
	set  func(s *settings, value string) bool
	get  func(s *settings) string
	fifo bool // it is for FIFO queues only
}

// attributes are those that can be set.
var attributes = map[string]attribute{
	"VisibilityTimeout":             lasting(func(s *settings) *time.Duration { return &s.visibility }, 0, maxVisibility),
	"DelaySeconds":                  lasting(func(s *settings) *time.Duration { return &s.delay }, 0, maxDelay),
	"MessageRetentionPeriod":        lasting(func(s *settings) *time.Duration { return &s.retention }, minRetention, maxRetention),
	"ReceiveMessageWaitTimeSeconds": lasting(func(s *settings) *time.Duration { return &s.wait }, 0, maxWait),
	"MaximumMessageSize": {
		set: func(s *settings, value string) (ok bool) {
			s.maxBytes, ok = number(value, minMaxBytes, maxBytes)
			return ok
		},
		get: func(s *settings) string { return strconv.Itoa(s.maxBytes) },
	},
	"RedrivePolicy": {set: (*settings).setRedrive, get: (*settings).redrive},
	"FifoQueue": { // that of an existing queue is in its name
		set: func(_ *settings, value string) bool { return value == "true" },
		get: func(*settings) string { return "true" }, fifo: true,
	},
	"ContentBasedDeduplication": choice(func(s *settings) *bool { return &s.contentDedup }, "false", "true"),
	"DeduplicationScope":        choice(func(s *settings) *bool { return &s.dedupByGroup }, "queue", "messageGroup"),
	"FifoThroughputLimit":       choice(func(s *settings) *bool { return &s.throughputByGroup }, "perQueue", "perMessageGroupId"),
	// These are kept and not acted upon.
	"Policy":                       kept("Policy"),
	"RedriveAllowPolicy":           kept("RedriveAllowPolicy"),
	"KmsMasterKeyId":               kept("KmsMasterKeyId"),
	"KmsDataKeyReusePeriodSeconds": kept("KmsDataKeyReusePeriodSeconds"),
	"SqsManagedSseEnabled":         kept("SqsManagedSseEnabled"),
}

// lasting is an attribute in seconds.
func lasting(field func(*settings) *time.Duration, least, most time.Duration) attribute {
	return attribute{
		set: func(s *settings, value string) bool {
			n, ok := number(value, int(least/time.Second), int(most/time.Second))
			*field(s) = time.Duration(n) * time.Second
			return ok
		},
		get: func(s *settings) string { return seconds(*field(s)) },
	}
}

// choice is an attribute of FIFO queues with two values, the first of which is
// the default.
func choice(field func(*settings) *bool, no, yes string) attribute {
	return attribute{
		fifo: true,
		set: func(s *settings, value string) bool {
			*field(s) = value == yes
			return value == yes || value == no
		},
		get: func(s *settings) string {
			if *field(s) {
				return yes
			}
			return no
		},
	}
}

func kept(name string) attribute {
	return attribute{
		set: func(s *settings, value string) bool {
			s.others = maps.Clone(s.others)
			if s.others == nil {
				s.others = map[string]string{}
			}
			s.others[name] = value
			return true
		},
		get: func(s *settings) string { return s.others[name] },
	}
}

func number(value string, least, most int) (int, bool) {
	n, err := strconv.Atoi(value)
	return n, err == nil && n >= least && n <= most
}

// seconds is a duration as attributes give it.
func seconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }

// redrivePolicy is how a queue names its dead letter queue.
type redrivePolicy struct {
	DeadLetterTargetArn string      `json:"deadLetterTargetArn"`
	MaxReceiveCount     json.Number `json:"maxReceiveCount"` // with or without quotes
}

// setRedrive takes a policy, or takes it away with an empty text.
func (s *settings) setRedrive(value string) bool {
	if value == "" {
		s.deadLetters, s.maxReceives = "", 0
		return true
	}
	policy := redrivePolicy{MaxReceiveCount: json.Number(strconv.Itoa(defaultReceives))}
	if json.Unmarshal([]byte(value), &policy) != nil || !strings.HasPrefix(policy.DeadLetterTargetArn, "arn:aws:sqs:") {
		return false
	}
	receives, ok := number(policy.MaxReceiveCount.String(), 1, maxReceives)
	s.deadLetters, s.maxReceives = policy.DeadLetterTargetArn, receives
	return ok
}

func (s *settings) redrive() string {
	if s.deadLetters == "" {
		return ""
	}
	policy, _ := json.Marshal(redrivePolicy{s.deadLetters, json.Number(strconv.Itoa(s.maxReceives))})
	return string(policy)
}

// change returns settings with other values of attributes, for a queue of that
// name. The caller holds s.mu.
func (s *Server) change(name string, set settings, values map[string]string) (settings, *Error) {
	for _, attr := range slices.Sorted(maps.Keys(values)) {
		a, ok := attributes[attr]
		switch {
		case !ok, a.fifo && !fifo(name):
			return set, refuse("InvalidAttributeName", "Unknown Attribute %s.", attr)
		case !a.set(&set, values[attr]):
			return set, refuse("InvalidAttributeValue", "Invalid value for the parameter %s.", attr)
		}
	}
	return set, s.checkSettings(name, set)
}

// checkSettings finds what is wrong with settings of a queue. The caller holds
// s.mu.
func (s *Server) checkSettings(name string, set settings) *Error {
	for attr, a := range attributes {
		value := a.get(&set)
		if a.fifo && !fifo(name) && value != a.get(&defaults) || value != "" && !a.set(&set, value) {
			return refuse("InvalidAttributeValue", "Invalid value for the parameter %s.", attr)
		}
	}
	if set.throughputByGroup && !set.dedupByGroup {
		return refuse("InvalidAttributeValue", "The perMessageGroupId value is allowed only when the value for DeduplicationScope is messageGroup.")
	}
	if target := set.deadLetters; target != "" {
		switch {
		case target != s.ARN(target) || s.queues[nameOf(target)] == nil:
			return badValue("Value %s for parameter RedrivePolicy is invalid. Reason: Dead letter target does not exist.", set.redrive())
		case nameOf(target) == name:
			return badValue("Value %s for parameter RedrivePolicy is invalid. Reason: A queue cannot be its own dead letter queue.", set.redrive())
		case fifo(target) != fifo(name):
			return badValue("Value %s for parameter RedrivePolicy is invalid. Reason: Dead-letter queue must be same type of queue as the source.", set.redrive())
		}
	}
	return nil
}

// differs returns an attribute that has another value in other settings; empty
// if all are the same.
func (s *settings) differs(other *settings) string {
	for _, attr := range slices.Sorted(maps.Keys(attributes)) {
		if a := attributes[attr]; a.get(s) != a.get(other) {
			return attr
		}
	}
	return ""
}
