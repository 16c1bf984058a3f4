// Package secret replaces references in settings by the secrets that they name,
// in Secrets Manager and in the Parameter Store of Systems Manager:
//
//	arn:aws:secretsmanager:us-east-1:123456789012:secret:crm-AbCdEf
//	secretsmanager:crm
//	arn:aws:ssm:us-east-1:123456789012:parameter/crm/token
//	ssm:/crm/token
//
// each with an optional #key, if the secret is a JSON object and one member of it
// is meant.
//
// No error of this package holds a value.
package secret

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/eventsluice/sluice/internal/cloud/sdk"
	"github.com/eventsluice/sluice/internal/fault"
)

// Ref names a secret.
type Ref struct {
	// Service is "secretsmanager" or "ssm".
	Service string
	// ID is a name or an ARN.
	ID string
	// Key names the member that is meant; empty is the whole secret.
	Key string
	// region is that of the ARN; empty is the program's.
	region string
}

// Services that keep secrets, as they are called in ARNs and references.
const (
	secretsManager = "secretsmanager"
	parameterStore = "ssm"
)

// Parse reads a reference. ok is false for every other text.
func Parse(text string) (r Ref, ok bool) {
	id, key, hasKey := strings.Cut(text, "#")
	r = Ref{ID: id, Key: key}
	if arn.IsARN(id) {
		a, err := arn.Parse(id)
		if err != nil {
			return Ref{}, false
		}
		r.Service, r.region = a.Service, a.Region
		ok = a.Service == secretsManager && strings.HasPrefix(a.Resource, "secret:") ||
			a.Service == parameterStore && strings.HasPrefix(a.Resource, "parameter/")
	} else {
		r.Service, r.ID, ok = strings.Cut(id, ":")
		ok = ok && (r.Service == secretsManager || r.Service == parameterStore)
	}
	if !ok || r.ID == "" || hasKey && key == "" {
		return Ref{}, false
	}
	return r, true
}

// String is the reference.
func (r Ref) String() string {
	text := r.ID
	if !arn.IsARN(text) {
		text = r.Service + ":" + text
	}
	if r.Key != "" {
		text += "#" + r.Key
	}
	return text
}

// Client reads secrets. Its methods are safe for concurrent use.
type Client struct {
	secrets    *secretsmanager.Client
	parameters *ssm.Client
	region     string
}

// New returns a client. It makes no call.
func New(cfg aws.Config) *Client {
	return &Client{
		secrets:    secretsmanager.NewFromConfig(cfg, func(o *secretsmanager.Options) { o.HTTPClient = sdk.Watched(o.HTTPClient) }),
		parameters: ssm.NewFromConfig(cfg, func(o *ssm.Options) { o.HTTPClient = sdk.Watched(o.HTTPClient) }),
		region:     cfg.Region,
	}
}

func (c *Client) subject(r Ref, title, what string) sdk.Subject {
	s := sdk.Subject{Service: r.Service, Title: title, Name: fmt.Sprintf("%s %q", what, r.ID), Region: c.region}
	if r.region != "" {
		s.Region = r.region
	}
	s.Known = func(f *sdk.Failure, refusal sdk.Refusal) bool {
		switch refusal.Code[strings.LastIndexByte(refusal.Code, '.')+1:] {
		case "ResourceNotFoundException", "ParameterNotFound", "ParameterVersionNotFound":
			f.Kind = fault.NotFound
			f.Act("missing", "there is no %s in %s: create it, or check AWS_REGION", s.Name, s.Region)
		case "AccessDeniedException":
			f.Kind = fault.Forbidden
			f.Act("denied", "the AWS credentials may not call %s:%s on %s in %s: allow it in their policy, and kms:Decrypt if it has a key of its own", s.Service, refusal.Operation, s.Name, s.Region)
		case "DecryptionFailure", "InvalidKeyId":
			f.Kind = fault.Forbidden
			f.Act("kms", "%s in %s cannot be decrypted: allow kms:Decrypt on its key", s.Name, s.Region)
		case "InvalidRequestException":
			f.Kind = fault.Invalid
			f.Act("deleted", "%s in %s cannot be read: it is to be deleted, or has no value yet", s.Name, s.Region)
		default:
			return false
		}
		return true
	}
	return s
}

// Get returns the secret that a reference names, without regard to its Key.
func (c *Client) Get(ctx context.Context, r Ref) (string, error) {
	if r.Service == parameterStore {
		out, err := sdk.Call(ctx, c.subject(r, "Systems Manager", "parameter"), c.parameters.GetParameter,
			&ssm.GetParameterInput{Name: &r.ID, WithDecryption: aws.Bool(true)}, func(o *ssm.Options) {
				if r.region != "" {
					o.Region = r.region
				}
			})
		if err != nil {
			return "", err
		}
		if out.Parameter == nil || out.Parameter.Value == nil {
			return "", fmt.Errorf("parameter %q has no value", r.ID)
		}
		return *out.Parameter.Value, nil
	}
	out, err := sdk.Call(ctx, c.subject(r, "Secrets Manager", "secret"), c.secrets.GetSecretValue,
		&secretsmanager.GetSecretValueInput{SecretId: &r.ID}, func(o *secretsmanager.Options) {
			if r.region != "" {
				o.Region = r.region
			}
		})
	switch {
	case err != nil:
		return "", err
	case out.SecretString != nil:
		return *out.SecretString, nil
	case len(out.SecretBinary) > 0:
		return string(out.SecretBinary), nil
	}
	return "", fmt.Errorf("secret %q has no value", r.ID)
}

// Resolve returns settings, a JSON object, with every string in it that is a
// reference replaced by the secret. Each secret is read once. Settings without
// references come back as they are, and without a call. The error has a line for
// each reference that cannot be resolved: where it stands, what it is, and why.
func (c *Client) Resolve(ctx context.Context, settings json.RawMessage) (json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(settings))
	d.UseNumber()
	var tree any
	if d.Decode(&tree) != nil {
		return settings, nil //nolint:nilerr // what is no JSON has no references; its reader says so
	}
	w := walk{c: c, ctx: ctx, read: map[Ref]answer{}}
	tree = w.replace("", tree)
	if err := errors.Join(w.faults...); err != nil {
		return nil, err
	}
	if len(w.read) == 0 {
		return settings, nil
	}
	return json.Marshal(tree)
}

// HasReferences reports whether settings have references in them.
func HasReferences(settings json.RawMessage) bool {
	found := false
	var tree any
	if json.Unmarshal(settings, &tree) == nil {
		each("", tree, func(_, text string) string {
			_, ok := Parse(text)
			found = found || ok
			return text
		})
	}
	return found
}

// each replaces all strings of a tree but the names of members. path is where it
// stands, such as "headers.Authorization".
func each(path string, tree any, replace func(path, text string) string) any {
	switch v := tree.(type) {
	case string:
		return replace(path, v)
	case []any:
		for i := range v {
			v[i] = each(path+"["+strconv.Itoa(i)+"]", v[i], replace)
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			v[name] = each(strings.TrimPrefix(path+"."+name, "."), v[name], replace)
		}
	}
	return tree
}

type answer struct {
	value string
	err   error
}

type walk struct {
	c      *Client
	ctx    context.Context
	read   map[Ref]answer // by reference without its key
	faults []error
}

func (w *walk) replace(path string, tree any) any {
	return each(path, tree, func(path, text string) string {
		r, ok := Parse(text)
		if !ok {
			return text
		}
		whole := r
		whole.Key = ""
		got, again := w.read[whole]
		if !again {
			got.value, got.err = w.c.Get(w.ctx, whole)
			w.read[whole] = got
		}
		value, err := got.value, got.err
		if err == nil && r.Key != "" {
			value, err = member(value, r.Key)
		}
		if err != nil {
			w.faults = append(w.faults, fmt.Errorf("%s: %s: %w", path, r, err))
		}
		return value
	})
}

// member returns a member of a secret that is a JSON object.
func member(secret, key string) (string, error) {
	var object map[string]json.RawMessage
	if json.Unmarshal([]byte(secret), &object) != nil { // its error may quote the secret
		return "", errors.New("it is not a JSON object, so it has no members")
	}
	raw, ok := object[key]
	if !ok {
		return "", fmt.Errorf("it has no member %q", key)
	}
	var text string
	var number json.Number
	switch {
	case json.Unmarshal(raw, &text) == nil && raw[0] == '"':
		return text, nil
	case json.Unmarshal(raw, &number) == nil && raw[0] != '"' && number != "":
		return number.String(), nil
	case string(raw) == "true" || string(raw) == "false":
		return string(raw), nil
	}
	return "", fmt.Errorf("its member %q is neither a text nor a number", key)
}
