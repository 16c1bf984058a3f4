package deadletter

import (
	"testing"
	"time"
)

func TestALetterRemembersTheFirstTryAndTheNewest(t *testing.T) {
	t.Parallel()
	var tries []Try
	var earlier [][]Try
	for n := range 25 {
		earlier = append(earlier, tries)
		tries = AppendTry(tries, Try{Status: n, At: time.Unix(int64(n), 0)})
		if len(tries) != min(n+1, mostTries) || tries[0].Status != 0 || tries[len(tries)-1].Status != n {
			t.Fatalf("after %d tries: %+v", n+1, tries)
		}
	}
	if tries[1].Status != 25-mostTries+1 {
		t.Errorf("the second of those remembered is %d", tries[1].Status)
	}
	for n, before := range earlier {
		if len(before) > 1 && before[len(before)-1].Status != n-1 {
			t.Fatalf("the tries after %d were changed by a later one: %+v", n, before)
		}
	}
}
