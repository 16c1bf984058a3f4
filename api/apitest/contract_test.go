package apitest

import "testing"

func TestTheDocumentIsValid(t *testing.T) {
	if _, err := Load(); err != nil {
		t.Fatal(err)
	}
}
