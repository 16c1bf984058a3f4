package redshifttest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/eventsluice/sluice/internal/cloud/awstest"
)

const (
	// target is what stands before the operation in X-Amz-Target.
	target = "RedshiftData."
	// contentType is that of requests and answers.
	contentType = "application/x-amz-json-1.1"
	// Limits of a call. Source: Redshift Data API, BatchExecuteStatement, and
	// "Considerations when calling the Amazon Redshift Data API" (read 2026-11).
	maxStatements = 40
	maxStatement  = 100 << 10
	maxToken      = 64
	maxBody       = 8 << 20
)

// Error is an answer that refuses a call.
type Error = awstest.Error

// What the Data API refuses calls with. Names and statuses are those of its model;
// wordings are ours.
var (
	TooManyStatements = &Error{Code: "ActiveStatementsExceededException", Message: "Active statements exceeded the allowed quota (500)."}
	TooManySessions   = &Error{Code: "ActiveSessionsExceededException", Message: "Active sessions exceeded the allowed quota (500)."}
	NoConnection      = &Error{Code: "DatabaseConnectionException", Status: http.StatusInternalServerError, Message: "Connection to the database failed."}
	Environment       = &Error{Code: "BatchExecuteStatementException", Status: http.StatusInternalServerError, Message: "An SQL statement encountered an environmental error while running."}
	NoCluster         = &Error{Code: "ValidationException", Message: "Redshift endpoint doesn't exist in this region."}
)

func invalid(format string, args ...any) *Error {
	return &Error{Code: "ValidationException", Message: fmt.Sprintf(format, args...)}
}

// call is one request while it is served.
type call struct {
	*Server
	*awstest.Call
}

// operation serves a call and returns the output.
type operation func(c call) (any, *Error)

// operations are those that the server has.
var operations map[string]operation

func init() { // not a literal: operations look at faults, which look names up in it
	operations = map[string]operation{
		"BatchExecuteStatement": on(call.begin),
		"CancelStatement":       on(call.cancel),
		"DescribeStatement":     on(call.describe),
	}
}

// on makes an operation of a method.
func on[In any](serve func(call, *In) (any, *Error)) operation {
	return func(c call) (any, *Error) {
		in := new(In)
		if body := bytes.TrimSpace(c.Body); len(body) > 0 {
			if err := json.Unmarshal(body, in); err != nil {
				return nil, &Error{Code: "SerializationException", Message: err.Error()}
			}
		}
		return serve(c, in)
	}
}

// route finds the operation of a request.
func (s *Server) route(r *http.Request) (*awstest.Route, *awstest.Answer) {
	name, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), target)
	serve := operations[name]
	if !ok || serve == nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != contentType {
		return nil, refused(&Error{Code: "UnknownOperationException", Message: "POST of an operation of " + target + " with " + contentType + " is wanted"})
	}
	return &awstest.Route{
		Operation: name,
		Refused:   refused,
		Run: func(c *awstest.Call) *awstest.Answer {
			out, err := serve(call{s, c})
			if err != nil {
				return refused(err)
			}
			return answer(out)
		},
	}, nil
}

func answer(out any) *awstest.Answer {
	body, err := json.Marshal(out)
	if err != nil {
		panic(err) // a shape of ours that is none
	}
	return &awstest.Answer{ContentType: contentType, Body: body}
}

// refused answers with an error; nil is an empty object.
func refused(err *Error) *awstest.Answer {
	if err == nil {
		return answer(struct{}{})
	}
	a := answer(struct {
		Type    string `json:"__type"`
		Message string
	}{err.Code, err.Message})
	a.Status = cmp.Or(err.Status, http.StatusBadRequest)
	return a
}

// The shapes of the API, with the members that are served.

type beginInput struct {
	ClientToken, ClusterIdentifier, Database, DbUser, SecretArn, StatementName, WorkgroupName string
	Sqls                                                                                      []string
}

type idInput struct{ Id string }

type beginOutput struct {
	ClusterIdentifier string `json:",omitempty"`
	CreatedAt         float64
	Database          string
	DbUser            string `json:",omitempty"`
	Id                string
	SecretArn         string `json:",omitempty"`
	WorkgroupName     string `json:",omitempty"`
}

type describeOutput struct {
	CreatedAt, UpdatedAt float64
	Duration             int64
	Error                string `json:",omitempty"`
	HasResultSet         bool
	Id                   string
	ResultRows           int64
	Status               string
	SubStatements        []subStatement
}

type subStatement struct {
	Id, QueryString, Status string
	Error                   string `json:",omitempty"`
	ResultRows              int64
}

// seconds is how the protocol writes a time.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func (in *beginInput) check() *Error {
	switch {
	case len(in.Sqls) == 0 || len(in.Sqls) > maxStatements:
		return invalid("Sqls: 1 to %d statements are wanted, not %d", maxStatements, len(in.Sqls))
	case len(in.ClientToken) > maxToken:
		return invalid("ClientToken: has %d characters, at most %d", len(in.ClientToken), maxToken)
	case in.Database == "":
		return invalid("Database is required")
	case (in.ClusterIdentifier == "") == (in.WorkgroupName == ""):
		return invalid("one of ClusterIdentifier and WorkgroupName is wanted")
	case in.DbUser != "" && (in.SecretArn != "" || in.WorkgroupName != ""):
		return invalid("DbUser is for a cluster and temporary credentials")
	}
	for _, sql := range in.Sqls {
		if sql == "" || len(sql) > maxStatement {
			return invalid("a statement has %d bytes, 1 to %d are wanted", len(sql), maxStatement)
		}
	}
	return nil
}

// begin is BatchExecuteStatement.
func (c call) begin(in *beginInput) (any, *Error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	var b *batch
	var full bool
	c.locked(func() {
		if b = c.batches[c.tokens[in.ClientToken]]; b != nil && in.ClientToken != "" {
			return
		}
		active := 0
		for _, other := range c.batches {
			if !other.ended() {
				active++
			}
		}
		if full = active >= c.config.MaxActive; full {
			return
		}
		now := time.Now()
		ctx, stop := context.WithCancel(c.all)
		b = &batch{id: awstest.UUID(), statements: in.Sqls, created: now, updated: now, status: Submitted, stop: stop}
		c.batches[b.id] = b
		if in.ClientToken != "" {
			c.tokens[in.ClientToken] = b.id
		}
		held := c.held
		endings := awstest.Details[ending](c.Plan)
		c.running.Go(func() {
			defer stop()
			c.run(ctx, b, held, endings)
		})
	})
	if full {
		return nil, TooManyStatements
	}
	return beginOutput{
		ClusterIdentifier: in.ClusterIdentifier, WorkgroupName: in.WorkgroupName, Database: in.Database,
		DbUser: in.DbUser, SecretArn: in.SecretArn, Id: b.id, CreatedAt: seconds(b.created),
	}, nil
}

// locked does something to batches, in a call that has not been cut off.
func (c call) locked(do func()) {
	c.Work(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		do()
	})
}

func (c call) find(id string) (*batch, *Error) {
	if b := c.batches[id]; b != nil {
		return b, nil
	}
	return nil, &Error{Code: "ResourceNotFoundException", Message: "Query does not exist."}
}

// describe is DescribeStatement.
func (c call) describe(in *idInput) (out any, err *Error) {
	c.locked(func() {
		var b *batch
		if b, err = c.find(in.Id); err == nil {
			out = b.describe()
		}
	})
	return out, err
}

func (b *batch) describe() describeOutput {
	out := describeOutput{
		Id: b.id, Status: b.status, Error: b.err, ResultRows: -1,
		CreatedAt: seconds(b.created), UpdatedAt: seconds(b.updated), Duration: -1,
	}
	if b.ended() {
		out.Duration = b.updated.Sub(b.created).Nanoseconds()
	}
	for i, sql := range b.statements {
		sub := subStatement{Id: fmt.Sprintf("%s:%d", b.id, i+1), QueryString: sql, Status: Submitted, ResultRows: -1}
		switch {
		case i < len(b.rows):
			sub.Status, sub.ResultRows = Finished, b.rows[i]
		case i == len(b.rows) && b.status != Submitted:
			sub.Status, sub.Error = b.status, b.err
		case b.ended():
			sub.Status = Aborted
		}
		out.SubStatements = append(out.SubStatements, sub)
	}
	return out
}

// cancel is CancelStatement.
func (c call) cancel(in *idInput) (out any, err *Error) {
	c.locked(func() {
		var b *batch
		if b, err = c.find(in.Id); err != nil {
			return
		}
		if b.ended() {
			err = invalid("Could not cancel a query that is already in %s state with ID: %s.", b.status, b.id)
			return
		}
		b.stop()
		out = struct{ Status bool }{true}
	})
	return out, err
}
