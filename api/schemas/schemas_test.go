package schemas_test

import (
	"strings"
	"testing"

	"github.com/eventsluice/sluice/api/schemas"
	"github.com/eventsluice/sluice/api/schemas/schemastest"
)

func TestGoodDocumentsAreValidAndBadOnesAreNot(t *testing.T) {
	for _, tt := range schemastest.Cases {
		t.Run(tt.Name+"/"+strings.ReplaceAll(tt.What, " ", "_"), func(t *testing.T) {
			c, err := schemastest.New(tt.Name)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Check([]byte(tt.Document)); (err == nil) != tt.Valid {
				t.Errorf("%s: %v", tt.Document, err)
			}
		})
	}
}

func TestEveryDocumentHasASchema(t *testing.T) {
	for _, name := range schemas.Names {
		if _, err := schemastest.New(name); err != nil {
			t.Error(err)
		}
	}
	if schemas.Of("../schemas") != nil || schemas.Of("") != nil {
		t.Error("there is a schema of nothing")
	}
}
