package ledger

import (
	"encoding/json"
	"testing"
)

// books is a gateway with one destination after ten events: one was invalid,
// seven are at the destination, one is retried, one is dead.
func books() (*Intake, map[string]Account, Books) {
	in := &Intake{}
	in.Received(10)
	in.Rejected(Invalid, 1)
	in.Accepted(9)
	accounts := map[string]Account{"crm": {Seen: 9, Delivered: 7, Retrying: 1, Dead: 1}}
	return in, accounts, Books{
		Intake:       in,
		InFlight:     func() int64 { return 0 },
		Stored:       func() uint64 { return 9 },
		Destinations: func() map[string]Account { return accounts },
	}
}

func TestTheStatementHasTheShapeOfTheContract(t *testing.T) {
	t.Parallel()
	_, _, b := books()
	got, err := json.Marshal(b.Statement())
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"received":10,"rejected":1,"accepted":9,"stored":9,"spooled":0,` +
		`"destinations":{"crm":{"routed":9,"filtered":0,"delivered":7,"retrying":1,"waiting":0,"dead":1,"unrouted":0}},"residual":0}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestEveryKindOfLossIsAResidual(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*Intake, map[string]Account, *Books){
		"received and forgotten":    func(in *Intake, _ map[string]Account, _ *Books) { in.Received(1) },
		"accepted and not stored":   func(in *Intake, _ map[string]Account, _ *Books) { in.Received(1); in.Accepted(1) },
		"stored and never accepted": func(_ *Intake, _ map[string]Account, b *Books) { b.Stored = func() uint64 { return 10 } },
		"a duplicate that was stored": func(in *Intake, _ map[string]Account, b *Books) {
			in.Received(1)
			in.Duplicate(1)
			b.Stored = func() uint64 { return 10 }
		},
		"read and forgotten":             func(_ *Intake, a map[string]Account, _ *Books) { a["crm"] = Account{Seen: 9, Delivered: 7, Dead: 1} },
		"delivered twice in the account": func(_ *Intake, a map[string]Account, _ *Books) { a["crm"] = Account{Seen: 9, Delivered: 9, Dead: 1} },
		"read and not stored":            func(_ *Intake, a map[string]Account, _ *Books) { a["crm"] = Account{Seen: 10, Delivered: 10} },
	} {
		in, accounts, b := books()
		lose(in, accounts, &b)
		if s := b.Statement(); s.Residual == 0 {
			t.Errorf("%s: no residual in %+v", name, s)
		}
	}
}

func TestWhatIsOnItsWayIsNoResidual(t *testing.T) {
	t.Parallel()
	in, accounts, b := books()
	in.Received(2)
	b.InFlight = func() int64 { return 2 }
	accounts["crm"] = Account{Seen: 5, Delivered: 3, Waiting: 2}
	s := b.Statement()
	if s.Residual != 0 || s.InFlight != 2 || s.Destinations["crm"].Unrouted != 4 {
		t.Errorf("%+v", s)
	}
}

func TestAReadingThatMotionDisturbedIsTakenAgain(t *testing.T) {
	t.Parallel()
	in, _, b := books()
	in.Received(1)
	reading := 0
	b.InFlight = func() int64 { // received already, and only now in flight
		reading++
		if reading < 3 {
			return 0
		}
		return 1
	}
	if s := b.Statement(); s.Residual != 0 {
		t.Errorf("%+v", s)
	}
}

func TestABalanceCarriesOverARestart(t *testing.T) {
	t.Parallel()
	in, _, b := books()
	balance := in.Balance()
	restarted := &Intake{}
	restarted.Open(balance)
	b.Intake = restarted
	if s := b.Statement(); s.Residual != 0 || s.Received != 10 || s.Rejected != 1 {
		t.Errorf("%+v", s)
	}
}

func TestADuplicateIsAcceptedAndNotStored(t *testing.T) {
	t.Parallel()
	in, _, b := books()
	in.Received(3)
	in.Duplicate(3)
	s := b.Statement()
	if s.Residual != 0 || s.Accepted != 12 || s.Stored != 9 || s.Duplicates != 3 {
		t.Errorf("%+v", s)
	}
	// The stream knows what it holds after a restart, and nothing of duplicates.
	opening := in.Balance()
	if opening.Accepted != 9 || opening.Duplicates != 3 {
		t.Errorf("the balance is %+v", opening)
	}
	b.Intake = &Intake{}
	b.Intake.Open(opening)
	if s := b.Statement(); s.Residual != 0 || s.Received != 13 || s.Duplicates != 3 {
		t.Errorf("after a restart: %+v", s)
	}
}
