package settings

import (
	"encoding/json"
	"reflect"
	"strings"
)

// Field is a setting, as it is shown to an operator.
type Field struct {
	// Name is the setting; of a member of an object, with the names above it and
	// dots between them: "privacy.ip".
	Name string
	// Type says in words what value it takes, Default is its default in JSON, ""
	// if there is none.
	Type, Default string
	Required      bool
	// Doc is what it means.
	Doc string
}

// Describe lists the settings in a struct that holds their defaults, in the
// order of its fields. A field says what it means in its tag `doc`; one that is a
// struct and has no such tag is listed by its members.
func Describe(defaults any) []Field {
	return describe("", reflect.Indirect(reflect.ValueOf(defaults)))
}

func describe(above string, v reflect.Value) (fields []Field) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, doc := jsonName(f), f.Tag.Get("doc")
		switch {
		case name == "":
			continue
		case f.Type.Kind() == reflect.Struct && doc == "":
			fields = append(fields, describe(above+name+".", v.Field(i))...)
			continue
		}
		field := Field{Name: above + name, Type: kindName(f.Type), Doc: doc}
		for rule := range strings.SplitSeq(f.Tag.Get("validate"), ",") {
			key, values, _ := strings.Cut(rule, "=")
			switch key {
			case "required":
				field.Required = true
			case "oneof":
				field.Type = "one of " + strings.Join(strings.Fields(values), ", ")
			}
		}
		if value := v.Field(i); !value.IsZero() {
			if text, err := json.Marshal(value.Interface()); err == nil {
				field.Default = string(text)
			}
		}
		fields = append(fields, field)
	}
	return fields
}
