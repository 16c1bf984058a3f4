package e2e

import (
	"database/sql"
	"encoding/json"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	_ "modernc.org/sqlite"
)

// ledger is the answer of GET /api/ledger.
type ledger struct {
	Received     uint64             `json:"received"`
	Rejected     uint64             `json:"rejected"`
	Accepted     uint64             `json:"accepted"`
	Stored       uint64             `json:"stored"`
	Spooled      uint64             `json:"spooled"`
	Duplicates   uint64             `json:"duplicates"`
	InFlight     uint64             `json:"in_flight"`
	Residual     uint64             `json:"residual"`
	Destinations map[string]account `json:"destinations"`
}

type account struct {
	Routed    uint64 `json:"routed"`
	Filtered  uint64 `json:"filtered"`
	Delivered uint64 `json:"delivered"`
	Retrying  uint64 `json:"retrying"`
	Waiting   uint64 `json:"waiting"`
	Dead      uint64 `json:"dead"`
	Unrouted  uint64 `json:"unrouted"`
	Skipped   uint64 `json:"skipped"`
	Purged    uint64 `json:"purged"`
	Replayed  uint64 `json:"replayed"`
}

// settled reports whether a destination has nothing left to do.
func (a account) settled() bool { return a.Unrouted+a.Waiting+a.Retrying == 0 }

// ledger reads the ledger and checks that its sums add up.
func (p *process) ledger() ledger {
	p.t.Helper()
	resp, err := http.Get(p.admin + "/api/ledger")
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	var l ledger
	if err := json.NewDecoder(resp.Body).Decode(&l); err != nil {
		p.t.Fatal(err)
	}
	if l.Residual != 0 {
		p.t.Errorf("the residual is %d: %+v", l.Residual, l)
	}
	if l.Received != l.Rejected+l.Accepted+l.InFlight || l.Accepted != l.Stored+l.Spooled+l.Duplicates {
		p.t.Errorf("the intake does not add up: %+v", l)
	}
	for name, a := range l.Destinations {
		if sum := a.Filtered + a.Delivered + a.Retrying + a.Waiting + a.Dead + a.Unrouted + a.Skipped + a.Purged + a.Replayed; sum != l.Stored {
			p.t.Errorf("%s: %d events of %d: %+v", name, sum, l.Stored, a)
		}
	}
	return l
}

// await reads the ledger until it is as wanted.
func (p *process) await(what string, wanted func(ledger) bool) ledger {
	p.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		l := p.ledger()
		if wanted(l) {
			return l
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("waited in vain for %s: %+v", what, l)
		}
		select {
		case <-p.done:
			p.t.Fatalf("sluice has ended: %v", p.err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// settle waits until every destination is done with every event.
func (p *process) settle() ledger {
	p.t.Helper()
	return p.await("every destination to be done", func(l ledger) bool {
		for _, a := range l.Destinations {
			if !a.settled() {
				return false
			}
		}
		return l.InFlight == 0
	})
}

// row is one event in the warehouse.
type row struct {
	id, kind, name, userID, anonymousID, timestamp, receivedAt, source, data, context string
}

// warehouse returns the rows of the embedded warehouse in the order in which
// they were written.
func warehouse(t *testing.T, dir string) []row {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "warehouse.db")+"?mode=ro&_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query(`SELECT id, type, name, coalesce(user_id, ''), coalesce(anonymous_id, ''),
		coalesce(timestamp, ''), received_at, coalesce(source, ''), data, context FROM events ORDER BY rowid`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all []row
	for rows.Next() {
		var r row
		if err := rows.Scan(&r.id, &r.kind, &r.name, &r.userID, &r.anonymousID, &r.timestamp, &r.receivedAt, &r.source, &r.data, &r.context); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}
