package letters

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/eventsluice/sluice/internal/cloud"
	"github.com/eventsluice/sluice/internal/cloud/invoke"
	"github.com/eventsluice/sluice/internal/cloud/object"
	"github.com/eventsluice/sluice/internal/cloud/queue"
	"github.com/eventsluice/sluice/internal/cloud/sdk"
	"github.com/eventsluice/sluice/internal/document"
	"github.com/eventsluice/sluice/internal/fault"
)

// Setup says what clients are made of.
type Setup struct {
	// Stream is the name of the Kinesis stream that letters are replayed to,
	// empty if there is none.
	Stream string
	// Rules is where the rules document is: s3://bucket/key, a path, or empty. A
	// file that does not exist is none.
	Rules string
	// Log gets what an operator has to act on. Default: none.
	Log *slog.Logger
	// SDK changes what the AWS SDK reads from the environment.
	SDK []sdk.Option
}

// Dial makes the clients of a Desk. It makes no call to AWS.
func Dial(ctx context.Context, s Setup) (Clients, error) {
	cfg, err := sdk.Load(ctx, s.Log, s.SDK...)
	if err != nil {
		return Clients{}, err
	}
	objects := object.New(cfg)
	return Clients{
		Queues:  queue.New(cfg),
		Objects: objects,
		Sender:  invoke.New(cfg),
		Stream: func(ctx context.Context, text string) (Stream, error) {
			options := s.SDK
			if a, err := arn.Parse(text); err == nil {
				options = append(options[:len(options):len(options)], config.WithRegion(a.Region))
			}
			return cloud.Open(ctx, cloud.Config{Stream: text, Log: s.Log, SDK: options})
		},
		Target: func(ctx context.Context) (Target, error) {
			if s.Stream == "" {
				return nil, fault.New(fault.Invalid, "there is no stream to replay to: set SLUICE_STREAM=kinesis://NAME")
			}
			return cloud.Open(ctx, cloud.Config{Stream: s.Stream, Log: s.Log, SDK: s.SDK})
		},
		ARNs: func(ctx context.Context) (map[string]string, error) {
			source, err := rulesSource(objects, s.Rules)
			if source == nil || err != nil {
				return nil, err
			}
			doc, _, err := source.Read(ctx, "")
			if errors.Is(err, fs.ErrNotExist) {
				return nil, nil
			}
			if err != nil {
				return nil, fmt.Errorf("rules %s: %w", source, err)
			}
			return parseARNs(doc)
		},
	}, nil
}

// rulesSource finds the rules document; nil if there is none.
func rulesSource(objects *object.Client, text string) (document.Source, error) {
	if text == "" {
		return nil, nil
	}
	if strings.HasPrefix(text, object.Scheme) {
		bucket, key, err := object.Parse(text)
		if err != nil {
			return nil, err
		}
		return objects.Source(bucket, key), nil
	}
	return document.File(text), nil
}

// parseARNs reads the destination_arn of each destination out of a rules
// document: of several rules, that of the first that is in use. Package router
// reads it whole; here nothing but the names matter.
func parseARNs(doc []byte) (map[string]string, error) {
	var rules []struct {
		Destination string `json:"destination_name"`
		ARN         string `json:"destination_arn"`
		Enabled     *bool  `json:"enabled"`
	}
	if err := json.Unmarshal(doc, &rules); err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	arns := map[string]string{}
	for _, r := range rules {
		if arns[r.Destination] == "" && arn.IsARN(r.ARN) && (r.Enabled == nil || *r.Enabled) {
			arns[r.Destination] = r.ARN
		}
	}
	return arns, nil
}
