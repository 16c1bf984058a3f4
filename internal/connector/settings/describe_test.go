package settings_test

import (
	"slices"
	"testing"
	"time"

	"github.com/eventsluice/sluice/internal/connector/settings"
)

func TestSettingsAreDescribed(t *testing.T) {
	t.Parallel()
	type privacy struct {
		IP string `json:"ip" validate:"omitempty,oneof=keep drop" doc:"the address of the user"`
	}
	got := settings.Describe(&struct {
		URL     string            `json:"url" validate:"required" doc:"where to"`
		Timeout settings.Duration `json:"timeout" validate:"min=1s" doc:"of one call"`
		Tags    []string          `json:"tags" doc:"put on everyone"`
		Privacy privacy           `json:"privacy"`
		hidden  int
		Derived int `json:"-"`
	}{Timeout: settings.Duration(15 * time.Second)})
	want := []settings.Field{
		{Name: "url", Type: "a string", Required: true, Doc: "where to"},
		{Name: "timeout", Type: `a duration such as "30s"`, Default: `"15s"`, Doc: "of one call"},
		{Name: "tags", Type: "an array, each item a string", Doc: "put on everyone"},
		{Name: "privacy.ip", Type: "one of keep, drop", Doc: "the address of the user"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}
