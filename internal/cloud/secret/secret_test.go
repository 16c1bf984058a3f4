package secret_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/eventsluice/sluice/internal/cloud/sdk"
	"github.com/eventsluice/sluice/internal/cloud/secret"
	"github.com/eventsluice/sluice/internal/fault"
)

func TestWhatIsAReference(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]secret.Ref{
		"secretsmanager:crm":             {Service: "secretsmanager", ID: "crm"},
		"secretsmanager:prod/crm#token":  {Service: "secretsmanager", ID: "prod/crm", Key: "token"},
		"ssm:/crm/token":                 {Service: "ssm", ID: "/crm/token"},
		"ssm:/crm/token:3#a#b":           {Service: "ssm", ID: "/crm/token:3", Key: "a#b"},
		"https://example.com/#fragment":  {},
		"secretsmanager:":                {},
		"secretsmanager:#token":          {},
		"secretsmanager:crm#":            {},
		"s3:crm":                         {},
		"":                               {},
		"a secretsmanager:crm":           {},
		"arn:aws:s3:::bucket":            {},
		"arn:aws:lambda:r:1:function:f":  {},
		"arn:aws:ssm:us-east-1:1:run/x":  {},
		"arn:aws:secretsmanager:r:1:key": {},
	} {
		got, ok := secret.Parse(text)
		if got != want || ok != (want != secret.Ref{}) || ok && got.String() != text {
			t.Errorf("%q: %+v, %v", text, got, ok)
		}
	}
	for text, service := range map[string]string{
		"arn:aws:secretsmanager:eu-west-1:123456789012:secret:crm-AbCdEf":        "secretsmanager",
		"arn:aws-cn:secretsmanager:cn-north-1:123456789012:secret:a/b-AbCdEf#k":  "secretsmanager",
		"arn:aws:ssm:us-east-1:123456789012:parameter/crm/token":                 "ssm",
		"arn:aws-us-gov:ssm:us-gov-west-1:123456789012:parameter/crm/token#json": "ssm",
	} {
		if got, ok := secret.Parse(text); !ok || got.Service != service || got.String() != text {
			t.Errorf("%q: %+v, %v", text, got, ok)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("secretsmanager:crm#token")
	f.Add("arn:aws:ssm:us-east-1:123456789012:parameter/crm/token#a")
	f.Fuzz(func(t *testing.T, text string) {
		r, ok := secret.Parse(text)
		if ok && r.String() != text {
			t.Errorf("%q became %q", text, r)
		}
		if again, ok2 := secret.Parse(r.String()); ok && (!ok2 || again != r) {
			t.Errorf("%+v became %+v", r, again)
		}
	})
}

// aws is Secrets Manager and Parameter Store: secrets by name or ARN.
type aws struct {
	mu    sync.Mutex
	calls []string // region, operation and what was asked for
	fail  string   // the code of every answer
}

const hidden = "HIDDENVALUE"

func (a *aws) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, _ := io.ReadAll(q.Body)
	var in struct {
		SecretId, Name string
		WithDecryption bool
	}
	_ = json.Unmarshal(body, &in)
	scope := strings.Split(q.Header.Get("Authorization"), "/")
	_, operation, _ := strings.Cut(q.Header.Get("X-Amz-Target"), ".")
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, scope[2]+" "+operation+" "+in.SecretId+in.Name)
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	refuse := func(code string) {
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": "about " + hidden})
	}
	if a.fail != "" {
		refuse(a.fail)
		return
	}
	var answer any
	switch name := in.SecretId + in.Name; {
	case strings.Contains(name, "gone") && operation == "GetParameter":
		refuse("ParameterNotFound")
		return
	case strings.Contains(name, "gone"):
		refuse("ResourceNotFoundException")
		return
	case operation == "GetParameter" && in.WithDecryption:
		answer = map[string]any{"Parameter": map[string]any{"Value": hidden + " of " + name}}
	case name == "binary":
		answer = map[string]any{"SecretBinary": []byte("\x01\x02")}
	case name == "empty":
		answer = map[string]any{}
	case name == "json":
		answer = map[string]any{"SecretString": `{"token":"` + hidden + `","n":1.50,"on":true,"list":["` + hidden + `"],"none":null}`}
	default:
		answer = map[string]any{"SecretString": hidden + " of " + name}
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func client(t *testing.T) (*aws, *secret.Client) {
	t.Helper()
	a := &aws{}
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	cfg, err := sdk.Load(t.Context(), nil, config.WithRegion("us-east-1"), config.WithBaseEndpoint(server.URL),
		config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "SECRET", "")),
		config.WithSharedConfigFiles([]string{}), config.WithSharedCredentialsFiles([]string{}))
	if err != nil {
		t.Fatal(err)
	}
	return a, secret.New(cfg)
}

func TestReferencesAreReplacedWhereverTheyStand(t *testing.T) {
	t.Parallel()
	a, c := client(t)
	got, err := c.Resolve(t.Context(), json.RawMessage(`{"url":"https://x","n":12345678901234567890,"secretsmanager:name":1,
		"list":["ssm:/p","plain"],"deep":{"a":{"b":"secretsmanager:json#token"}},"again":"secretsmanager:json#n","on":"secretsmanager:json#on","raw":"secretsmanager:binary",
		"far":"arn:aws:secretsmanager:eu-west-1:123456789012:secret:crm-AbCdEf"}`))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"again":"1.50","deep":{"a":{"b":"HIDDENVALUE"}},"far":"HIDDENVALUE of arn:aws:secretsmanager:eu-west-1:123456789012:secret:crm-AbCdEf",` +
		`"list":["HIDDENVALUE of /p","plain"],"n":12345678901234567890,"on":"true","raw":"\u0001\u0002","secretsmanager:name":1,"url":"https://x"}`
	if string(got) != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	slices.Sort(a.calls)
	if want := []string{
		"eu-west-1 GetSecretValue arn:aws:secretsmanager:eu-west-1:123456789012:secret:crm-AbCdEf",
		"us-east-1 GetParameter /p", "us-east-1 GetSecretValue binary", "us-east-1 GetSecretValue json",
	}; !slices.Equal(a.calls, want) {
		t.Errorf("calls %q", a.calls)
	}
}

func TestSettingsWithoutReferencesNeedNoCall(t *testing.T) {
	t.Parallel()
	a, c := client(t)
	for _, settings := range []string{`{"a":"b",  "a":"c"}`, `{}`, ``, `{"a":`, `null`} {
		got, err := c.Resolve(t.Context(), json.RawMessage(settings))
		if err != nil || string(got) != settings || secret.HasReferences(json.RawMessage(settings)) {
			t.Errorf("%s became %s: %v", settings, got, err)
		}
	}
	if len(a.calls) > 0 {
		t.Errorf("calls %q", a.calls)
	}
	if !secret.HasReferences(json.RawMessage(`{"a":[{"b":"ssm:/p"}]}`)) {
		t.Error("a reference was not found")
	}
}

func TestEveryReferenceThatLeadsNowhereHasALineAndNoValue(t *testing.T) {
	t.Parallel()
	_, c := client(t)
	_, err := c.Resolve(t.Context(), json.RawMessage(`{"a":"secretsmanager:gone","b":["ssm:/gone"],"c":"secretsmanager:json#gone","d":"secretsmanager:json#list",
		"e":"secretsmanager:text#key","f":"secretsmanager:empty","g":"secretsmanager:json#none","ok":"secretsmanager:json#token"}`))
	if err == nil {
		t.Fatal("accepted")
	}
	want := []string{
		`a: secretsmanager:gone: there is no secret "gone" in us-east-1`,
		`b[0]: ssm:/gone: there is no parameter "/gone" in us-east-1`,
		`c: secretsmanager:json#gone: it has no member "gone"`,
		`d: secretsmanager:json#list: its member "list" is neither`,
		`e: secretsmanager:text#key: it is not a JSON object`,
		`f: secretsmanager:empty: secret "empty" has no value`,
		`g: secretsmanager:json#none: its member "none" is neither`,
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != len(want) || strings.Contains(err.Error(), hidden) {
		t.Fatalf("%v", err)
	}
	for i, line := range lines {
		if !strings.HasPrefix(line, want[i]) {
			t.Errorf("\n got %s\nwant %s", line, want[i])
		}
	}
}

func TestARefusalSaysWhatToDo(t *testing.T) {
	t.Parallel()
	a, c := client(t)
	for code, want := range map[string]struct {
		text string
		kind fault.Kind
	}{
		"AccessDeniedException":   {"may not call secretsmanager:GetSecretValue", fault.Forbidden},
		"DecryptionFailure":       {"allow kms:Decrypt", fault.Forbidden},
		"InvalidRequestException": {"it is to be deleted", fault.Invalid},
		"ExpiredTokenException":   {"session token has expired", fault.Unavailable},
	} {
		a.fail = code
		_, err := c.Get(t.Context(), secret.Ref{Service: "secretsmanager", ID: "crm"})
		if err == nil || !strings.Contains(err.Error(), want.text) || fault.KindOf(err) != want.kind || strings.Contains(err.Error(), hidden) {
			t.Errorf("%s: %v (%v)", code, err, fault.KindOf(err))
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Get(ctx, secret.Ref{Service: "ssm", ID: "/p"}); err == nil {
		t.Error("an answer though nobody waits for it")
	}
}
