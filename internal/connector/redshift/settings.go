package redshift

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/eventsluice/sluice/internal/connector/mapping"
	"github.com/eventsluice/sluice/internal/connector/settings"
)

// Config are the settings of a Redshift destination, as they stand in the
// destinations file.
type Config struct {
	ClusterIdentifier string `json:"cluster_identifier" doc:"the provisioned cluster; or set workgroup_name"`
	WorkgroupName     string `json:"workgroup_name" doc:"the serverless workgroup; or set cluster_identifier"`
	Database          string `json:"database" validate:"required" doc:"the database, such as \"dev\""`
	DBUser            string `json:"db_user" doc:"the database user of a cluster, with temporary credentials; default: that of the AWS identity"`
	SecretARN         string `json:"secret_arn" doc:"the secret of Secrets Manager that holds the database user; default: temporary credentials"`
	Table             string `json:"table" validate:"required" doc:"where events go, \"table\" or \"schema.table\""`
	CreateTable       bool   `json:"create_table" doc:"creates the table, and the one that loads are kept apart with, if they are missing"`

	StagingBucket string `json:"staging_bucket" validate:"required" doc:"the bucket, in the same region, where files wait to be loaded"`
	StagingPrefix string `json:"staging_prefix" doc:"what the keys of these files begin with"`
	IAMRole       string `json:"iam_role" validate:"required" doc:"the ARN of the role that lets Redshift read the files, or \"default\" for the one of the cluster"`
	Region        string `json:"region" doc:"the region of all of this; default: AWS_REGION"`

	Linger    settings.Duration `json:"linger" validate:"min=0s,max=15m" doc:"how long events wait for others, so that loads are few and large"`
	MaxEvents int               `json:"max_events" validate:"min=1,max=100000" doc:"the most events of one load"`
	// Privacy is applied before all else.
	Privacy mapping.Privacy `json:"privacy" doc:"what is removed from events or hashed first: drop, hash, salt, ip; see mapping"`
	filter  *mapping.Filter
}

// DefaultConfig returns the settings that hold where none are given.
func DefaultConfig() Config {
	return Config{
		Table: "events", CreateTable: true, StagingPrefix: "sluice-staging/",
		Linger: settings.Duration(time.Minute), MaxEvents: 10_000,
	}
}

// What stands in the text of a COPY may have none but these characters, so that
// quoting it cannot go wrong.
var (
	bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	keyPrefix  = regexp.MustCompile(`^([A-Za-z0-9._=-]+/)*$`)
	roles      = regexp.MustCompile(`^(default|arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+)$`)
)

const (
	// maxIdentifier is the longest name in bytes. Source: Redshift, "Names and
	// identifiers" (read 2026-11).
	maxIdentifier = 127
	// lockSuffix makes the name of the table that loads are kept apart with.
	lockSuffix = "_sluice_lock"
	maxPrefix  = 512
)

func parseConfig(raw json.RawMessage) (Config, table, error) {
	cfg := DefaultConfig()
	faults := []error{settings.Decode(raw, &cfg)}
	filter, err := mapping.NewFilter(cfg.Privacy)
	if cfg.filter = filter; err != nil {
		faults = append(faults, err)
	}
	fail := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	switch {
	case cfg.ClusterIdentifier == "" && cfg.WorkgroupName == "":
		fail("cluster_identifier: is required, or workgroup_name")
	case cfg.ClusterIdentifier != "" && cfg.WorkgroupName != "":
		fail("workgroup_name: cannot be with cluster_identifier")
	}
	switch {
	case cfg.DBUser != "" && cfg.SecretARN != "":
		fail("secret_arn: cannot be with db_user")
	case cfg.DBUser != "" && cfg.WorkgroupName != "":
		fail("db_user: is of clusters; a workgroup takes the user of the AWS identity, or secret_arn")
	}
	if cfg.StagingPrefix != "" && !strings.HasSuffix(cfg.StagingPrefix, "/") {
		cfg.StagingPrefix += "/"
	}
	if cfg.StagingBucket != "" && !bucketName.MatchString(cfg.StagingBucket) {
		fail("staging_bucket: is not the name of a bucket: 3 to 63 small letters, digits, dots and hyphens")
	}
	if len(cfg.StagingPrefix) > maxPrefix || !keyPrefix.MatchString(cfg.StagingPrefix) {
		fail("staging_prefix: may have letters, digits and . _ = - between slashes, and %d bytes", maxPrefix)
	}
	if cfg.IAMRole != "" && !roles.MatchString(cfg.IAMRole) {
		fail(`iam_role: is neither the ARN of a role, such as arn:aws:iam::123456789012:role/redshift-copy, nor "default"`)
	}
	table, err := parseTable(cfg.Table)
	if err != nil && cfg.Table != "" {
		fail("table: %w", err)
	}
	return cfg, table, errors.Join(faults...)
}

// table is the name of a table, with or without a schema, quoted for SQL; lock is
// that of the table which a load locks.
type table struct{ name, lock string }

// parseTable reads "table" or "schema.table".
func parseTable(text string) (table, error) {
	parts := strings.Split(text, ".")
	if len(parts) > 2 {
		return table{}, errors.New(`must be "table" or "schema.table"`)
	}
	for i, part := range parts {
		most := maxIdentifier
		if i == len(parts)-1 {
			most -= len(lockSuffix)
		}
		switch {
		case part == "":
			return table{}, errors.New(`must be "table" or "schema.table"`)
		case len(part) > most:
			return table{}, fmt.Errorf("a name may have %d bytes, and that of a table %d", maxIdentifier, maxIdentifier-len(lockSuffix))
		case !utf8.ValidString(part) || strings.ContainsFunc(part, func(r rune) bool { return r < ' ' || r == '"' || r == 0x7f }):
			return table{}, errors.New("has characters that a name should not have")
		}
		parts[i] = quoteName(part)
	}
	t := table{name: strings.Join(parts, ".")}
	parts[len(parts)-1] = quoteName(strings.Trim(parts[len(parts)-1], `"`) + lockSuffix)
	t.lock = strings.Join(parts, ".")
	return t, nil
}

// quoteName quotes a name for SQL.
func quoteName(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// quoteText quotes a text for SQL. Redshift takes a backslash in it for the
// begin of an escape.
func quoteText(text string) string {
	return `'` + strings.NewReplacer(`'`, `''`, `\`, `\\`).Replace(text) + `'`
}
