package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"

	"github.com/eventsluice/sluice/internal/document"
	"github.com/eventsluice/sluice/internal/ledger"
)

// balanceFile holds what the ledger opens with, as far as the host does not
// know it: the events that were rejected or duplicates, and on Kinesis those
// that were stored.
const balanceFile = "ledger.json"

// loadBalance returns the opening balance: accepted is what the host has,
// rejected what the last process kept.
func (p *program) loadBalance() (ledger.Opening, error) {
	var o ledger.Opening
	name := filepath.Join(p.settings.DataDir, balanceFile)
	text, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(text, &o)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return o, fmt.Errorf("opening balance %s: %w; remove the file to begin again with no rejected events", name, err)
	}
	o.Accepted = p.host.open(o.Accepted)
	return o, nil
}

// saveBalance keeps the balance if it changed since it was kept last.
func (p *program) saveBalance() error {
	balance := p.intake.Balance()
	balance.Accepted = p.host.keep()
	if reflect.DeepEqual(balance, p.keptBalance) {
		return nil
	}
	text, err := json.Marshal(balance)
	if err != nil {
		return err
	}
	if err := document.WriteFile(filepath.Join(p.settings.DataDir, balanceFile), append(text, '\n')); err != nil {
		return err
	}
	p.keptBalance = balance
	return nil
}
