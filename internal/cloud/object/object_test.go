package object_test

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/eventsluice/sluice/internal/cloud/object"
	"github.com/eventsluice/sluice/internal/cloud/sdk"
	"github.com/eventsluice/sluice/internal/document"
	"github.com/eventsluice/sluice/internal/fault"
)

// open returns a client of an S3 with the bucket "docs".
func open(t *testing.T) *object.Client {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("docs"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
	t.Cleanup(server.Close)
	cfg, err := sdk.Load(t.Context(), nil, config.WithRegion("us-east-1"), config.WithBaseEndpoint(server.URL),
		config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", "")),
		config.WithSharedConfigFiles([]string{}), config.WithSharedCredentialsFiles([]string{}))
	if err != nil {
		t.Fatal(err)
	}
	return object.New(cfg)
}

func TestADocumentIsReadAgainOnlyWhenItHasChanged(t *testing.T) {
	t.Parallel()
	c := open(t)
	source := c.Source("docs", "rules.json")
	if source.String() != "s3://docs/rules.json" {
		t.Errorf("called %s", source)
	}
	if _, _, err := source.Read(t.Context(), ""); fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), "rules.json") {
		t.Errorf("a document that does not exist: %v", err)
	}
	if err := c.Put(t.Context(), "docs", "rules.json", []byte(`[]`), ""); err != nil {
		t.Fatal(err)
	}
	doc, version, err := source.Read(t.Context(), "")
	if err != nil || string(doc) != `[]` || version == "" {
		t.Fatalf("%q, %q, %v", doc, version, err)
	}
	if _, _, err := source.Read(t.Context(), version); !errors.Is(err, document.ErrUnchanged) {
		t.Errorf("the same version: %v", err)
	}
	if err := c.Put(t.Context(), "docs", "rules.json", []byte(`[1]`), version); err != nil {
		t.Fatal(err)
	}
	if doc, _, err = source.Read(t.Context(), version); err != nil || string(doc) != `[1]` {
		t.Errorf("a new version: %q, %v", doc, err)
	}
	if _, _, err := c.Source("nowhere", "rules.json").Read(t.Context(), ""); fault.KindOf(err) != fault.NotFound || !strings.Contains(err.Error(), `"nowhere"`) {
		t.Errorf("a bucket that does not exist: %v", err)
	}
}

func TestAWriteOfWhatSomebodyElseHasChangedIsAConflict(t *testing.T) {
	t.Parallel()
	c := open(t)
	put := func(body, version string) fault.Kind {
		return fault.KindOf(c.Put(t.Context(), "docs", "keys.json", []byte(body), version))
	}
	if err := c.Put(t.Context(), "docs", "keys.json", []byte("1"), object.Absent); err != nil {
		t.Fatal(err)
	}
	if got := put("2", object.Absent); got != fault.Conflict {
		t.Errorf("a second first version: %v", got)
	}
	_, version, err := c.Get(t.Context(), "docs", "keys.json", "", 10)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Put(t.Context(), "docs", "keys.json", []byte("2"), version); err != nil {
		t.Fatal(err)
	}
	if got := put("3", version); got != fault.Conflict {
		t.Errorf("over a version that is gone: %v", got)
	}
}

func TestAnObjectAboveTheLimitIsRefused(t *testing.T) {
	t.Parallel()
	c := open(t)
	if err := c.Put(t.Context(), "docs", "large", make([]byte, 11), ""); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Get(t.Context(), "docs", "large", "", 10); fault.KindOf(err) != fault.TooLarge {
		t.Error(err)
	}
	if body, _, err := c.Get(t.Context(), "docs", "large", "", 11); err != nil || len(body) != 11 {
		t.Errorf("%d bytes, %v", len(body), err)
	}
}

func TestAClaimIsRedeemedAndAnotherObjectIsNot(t *testing.T) {
	t.Parallel()
	c := open(t)
	payload := []byte(strings.Repeat("x", 3<<20))
	claim, err := c.Claim(t.Context(), "docs", "claims/e1", payload)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Redeem(t.Context(), claim); err != nil || !slices.Equal(got, payload) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := c.Put(t.Context(), "docs", "claims/e1", []byte("another"), ""); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Redeem(t.Context(), claim); err == nil || !strings.Contains(err.Error(), "claims/e1") {
		t.Errorf("another object: %v", err)
	}
	if err := c.Delete(t.Context(), "docs", "claims/e1"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Redeem(t.Context(), claim); fault.KindOf(err) != fault.NotFound {
		t.Errorf("no object: %v", err)
	}
}

func TestKeysAreListedPageByPage(t *testing.T) {
	t.Parallel()
	c := open(t)
	for i := range 1005 {
		if err := c.Put(t.Context(), "docs", fmt.Sprintf("failed/%04d", i), nil, ""); err != nil {
			t.Fatal(err)
		}
	}
	var all []string
	for more := true; more; {
		after := ""
		if len(all) > 0 {
			after = all[len(all)-1]
		}
		var keys []string
		var err error
		if keys, more, err = c.List(t.Context(), "docs", "failed/", after); err != nil {
			t.Fatal(err)
		}
		all = append(all, keys...)
	}
	if len(all) != 1005 || !slices.IsSorted(all) {
		t.Errorf("%d keys", len(all))
	}
}

func TestNamesOfObjects(t *testing.T) {
	t.Parallel()
	if bucket, key, err := object.Parse("s3://docs/a/b.json"); err != nil || bucket != "docs" || key != "a/b.json" {
		t.Errorf("%q, %q, %v", bucket, key, err)
	}
	for _, wrong := range []string{"", "docs/a", "s3://", "s3://docs", "s3://docs/", "s3:///a", "https://docs/a"} {
		if _, _, err := object.Parse(wrong); err == nil {
			t.Errorf("%q was taken", wrong)
		}
	}
}
