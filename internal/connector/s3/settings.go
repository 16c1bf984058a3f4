package s3

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/eventsluice/sluice/internal/connector/httpcall"
	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/connector/settings"
)

// Config are the settings of an S3 destination, as they stand in the
// destinations file. Only Bucket is required.
type Config struct {
	Bucket      string            `json:"bucket" validate:"required" doc:"the bucket that files are put into"`
	Prefix      string            `json:"prefix" doc:"what keys begin with, such as \"events/\"; a slash is added where it has none at its end"`
	Format      string            `json:"format" validate:"oneof=ndjson parquet" doc:"ndjson (gzip, one event on each line, as stored) or parquet (the columns of the warehouse)"`
	Compression string            `json:"compression" validate:"oneof=snappy zstd" doc:"of Parquet; NDJSON is always gzip"`
	Partition   string            `json:"partition" validate:"oneof=hour day" doc:"hour (dt=2026-11-23/hh=10) or day (dt=2026-11-23), of received_at in UTC"`
	ByEvent     bool              `json:"by_event" doc:"puts event=NAME before the time, so that each event name has files of its own"`
	Linger      settings.Duration `json:"linger" validate:"min=0s,max=15m" doc:"how long events wait for others, so that files are few and large"`
	MaxEvents   int               `json:"max_events" validate:"min=1,max=100000" doc:"the most events in a file"`

	Region          string `json:"region" doc:"the region of the bucket; default: AWS_REGION"`
	Endpoint        string `json:"endpoint" doc:"the address of a store that speaks S3, https, or http on this machine; default: AWS"`
	AccessKeyID     string `json:"access_key_id" doc:"a key of its own for this bucket; default: the AWS credentials of the program"`
	SecretAccessKey string `json:"secret_access_key" doc:"the secret of access_key_id"`
	StorageClass    string `json:"storage_class" validate:"omitempty,oneof=STANDARD STANDARD_IA ONEZONE_IA INTELLIGENT_TIERING GLACIER_IR" doc:"the storage class of the files; default: the bucket's"`
	KMSKeyID        string `json:"kms_key_id" doc:"the KMS key that files are encrypted with; default: the bucket's encryption"`
	// Privacy is applied before all else.
	Privacy mapping.Privacy `json:"privacy" doc:"what is removed from events or hashed first: drop, hash, salt, ip; see mapping"`
	filter  *mapping.Filter
}

// Values of Config.Format, Config.Compression and Config.Partition.
const (
	formatNDJSON  = "ndjson"
	formatParquet = "parquet"
	snappy        = "snappy"
	zstd          = "zstd"
	byHour        = "hour"
	byDay         = "day"
)

// DefaultConfig returns the settings that hold where none are given.
func DefaultConfig() Config {
	return Config{
		Format: formatNDJSON, Compression: snappy, Partition: byHour,
		Linger: settings.Duration(time.Minute), MaxEvents: 10_000,
	}
}

// bucketName is what buckets are called. Source: S3, "General purpose bucket
// naming rules" (read 2026-11); stores of others are less strict about some of it.
var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]$`)

// maxPrefix leaves a key of at most 1024 bytes room for the rest. Source: S3,
// "Naming Amazon S3 objects" (read 2026-11).
const maxPrefix = 512

func parseConfig(raw json.RawMessage) (Config, error) {
	cfg := DefaultConfig()
	faults := []error{settings.Decode(raw, &cfg)}
	filter, err := mapping.NewFilter(cfg.Privacy)
	if cfg.filter = filter; err != nil {
		faults = append(faults, err)
	}
	if cfg.Bucket != "" && !bucketName.MatchString(cfg.Bucket) {
		faults = append(faults, errors.New("bucket: is not the name of a bucket: 3 to 63 small letters, digits, dots and hyphens"))
	}
	if cfg.Prefix != "" && !strings.HasSuffix(cfg.Prefix, "/") {
		cfg.Prefix += "/"
	}
	switch p := cfg.Prefix; {
	case len(p) > maxPrefix:
		faults = append(faults, fmt.Errorf("prefix: may have %d bytes", maxPrefix))
	case strings.HasPrefix(p, "/") || strings.Contains(p, "//"):
		faults = append(faults, errors.New("prefix: has a slash with nothing before it"))
	case !utf8.ValidString(p) || strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f }):
		faults = append(faults, errors.New("prefix: has characters that a key should not have"))
	}
	if err := checkEndpoint(cfg.Endpoint); err != nil {
		faults = append(faults, fmt.Errorf("endpoint: %w", err))
	}
	switch {
	case cfg.AccessKeyID == "" && cfg.SecretAccessKey != "":
		faults = append(faults, errors.New("access_key_id: is required with secret_access_key"))
	case cfg.AccessKeyID != "" && cfg.SecretAccessKey == "":
		faults = append(faults, errors.New("secret_access_key: is required with access_key_id"))
	}
	return cfg, errors.Join(faults...)
}

// checkEndpoint checks the address of a store. Errors do not repeat it.
func checkEndpoint(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return errors.New("is not an address such as https://s3.example.com")
	case u.Scheme == "https", u.Scheme == "http" && httpcall.Loopback(u.Hostname()):
		return nil
	}
	return errors.New("must be https, or http on this machine")
}
