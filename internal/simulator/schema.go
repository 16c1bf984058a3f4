package simulator

import (
	"cmp"
	"embed"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

//go:embed schemas
var schemaFiles embed.FS

// schemas are all that are compiled, by name and place, such as
// "mixpanel.import.request#/items".
var schemas sync.Map

// compiler knows all schema files.
var compiler = sync.OnceValue(func() *jsonschema.Compiler {
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	files, err := schemaFiles.ReadDir("schemas")
	if err != nil {
		panic(err) // they are part of the program
	}
	for _, file := range files {
		body, err := schemaFiles.ReadFile(path.Join("schemas", file.Name()))
		if err != nil {
			panic(err)
		}
		doc, err := decode(body)
		if err != nil {
			panic(err)
		}
		if err := c.AddResource("sluice:"+strings.TrimSuffix(file.Name(), ".schema.json"), doc); err != nil {
			panic(err)
		}
	}
	return c
})

var compiling sync.Mutex

// schema returns a schema of the folder schemas, or a part of one.
func schema(name string) *jsonschema.Schema {
	if s, ok := schemas.Load(name); ok {
		return s.(*jsonschema.Schema)
	}
	compiling.Lock()
	defer compiling.Unlock()
	s := compiler().MustCompile("sluice:" + name)
	schemas.Store(name, s)
	return s
}

// flaw is one thing that is wrong with a document.
type flaw struct {
	// path leads to the value, or to the member that is missing.
	path []string
	// rule says what is wrong, and key is the keyword of the schema that says so,
	// such as "maxLength".
	rule, key string
	// ofName says that it is the member's name that is wrong, not its value.
	ofName bool
}

// field is the path as people write it, such as "properties.time".
func (f *flaw) field() string { return strings.Join(f.path, ".") }

func (f *flaw) String() string {
	if len(f.path) == 0 {
		return "the body " + f.rule
	}
	return f.field() + " " + f.rule
}

// check returns what is wrong with a document, nil if nothing is. Of several
// flaws it is always the same one.
func check(name string, doc any) *flaw {
	if all := checkAll(name, doc); len(all) > 0 {
		return all[0]
	}
	return nil
}

// checkAll returns all that is wrong with a document, in the order of the
// places, if not of numbers in them.
func checkAll(name string, doc any) []*flaw {
	err := schema(name).Validate(doc)
	if err == nil {
		return nil
	}
	invalid, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return []*flaw{{rule: err.Error()}}
	}
	all := append(flaws(invalid), nameFlaws(schema(name), doc, nil)...)
	if len(all) == 0 {
		return []*flaw{{rule: "is not valid"}}
	}
	slices.SortFunc(all, func(a, b *flaw) int {
		return cmp.Or(slices.Compare(a.path, b.path), cmp.Compare(a.rule, b.rule))
	})
	return all
}

// nameFlaws returns what is wrong with the names of members. The library finds
// them too, but does not say where: the place in its error is that of the value
// it looked at last. (Version 6.0.3, objValidate: it keeps the slice that it goes
// on changing.) It follows what the schemas of this package use.
func nameFlaws(s *jsonschema.Schema, doc any, path []string) (found []*flaw) {
	for s.Ref != nil {
		s = s.Ref
	}
	at := func(name string) []string { return append(slices.Clone(path), name) }
	switch value := doc.(type) {
	case map[string]any:
		for name, inner := range value {
			if s.PropertyNames != nil {
				if err, ok := errors.AsType[*jsonschema.ValidationError](s.PropertyNames.Validate(name)); ok {
					found = append(found, &flaw{path: at(name), rule: "is not an allowed name", key: flaws(err)[0].key, ofName: true})
				}
			}
			next, ok := s.Properties[name]
			if !ok {
				next, ok = s.AdditionalProperties.(*jsonschema.Schema)
			}
			if ok {
				found = append(found, nameFlaws(next, inner, at(name))...)
			}
		}
	case []any:
		if s.Items2020 != nil {
			for i, inner := range value {
				found = append(found, nameFlaws(s.Items2020, inner, at(strconv.Itoa(i)))...)
			}
		}
	}
	return found
}

// flaws returns the leaves of an error: what a person would mend.
func flaws(e *jsonschema.ValidationError) []*flaw {
	var found []*flaw
	for _, cause := range e.Causes {
		found = append(found, flaws(cause)...)
	}
	f := &flaw{path: slices.Clone(e.InstanceLocation)}
	if words := e.ErrorKind.KeywordPath(); len(words) > 0 {
		f.key = words[0]
	}
	switch e.ErrorKind.(type) {
	case *kind.AnyOf, *kind.OneOf:
		return choice(f, found)
	case *kind.PropertyNames:
		return nil // see nameFlaws
	}
	if len(e.Causes) > 0 {
		return found
	}
	f.rule = "is not valid"
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		f.path, f.rule = append(f.path, slices.Min(k.Missing)), "is required"
	case *kind.DependentRequired:
		f.path, f.rule = append(f.path, slices.Min(k.Missing)), "is required with "+k.Prop
	case *kind.AdditionalProperties:
		f.path, f.rule = append(f.path, slices.Min(k.Properties)), "is not a known field"
	case *kind.Type:
		f.rule = fmt.Sprintf("must be %s, not %s", strings.Join(k.Want, " or "), k.Got)
	case *kind.Enum:
		f.rule = "has a value that is not allowed"
	case *kind.Not:
		f.rule, f.key = "has a value that is not allowed", "not"
	case *kind.Pattern:
		f.rule = "must match " + k.Want
	case *kind.Format:
		f.rule = "must be a " + k.Want
	case *kind.Minimum:
		f.rule = "must be at least " + k.Want.RatString()
	case *kind.MinLength:
		f.rule = fmt.Sprintf("must have at least %d characters", k.Want)
	case *kind.MaxLength:
		f.rule = fmt.Sprintf("must have at most %d characters", k.Want)
	case *kind.MinItems:
		f.rule = fmt.Sprintf("must have at least %d items", k.Want)
	case *kind.MaxItems:
		f.rule = fmt.Sprintf("must have at most %d items", k.Want)
	case *kind.MinProperties:
		f.rule = fmt.Sprintf("must have at least %d members", k.Want)
	case *kind.MaxProperties:
		f.rule = fmt.Sprintf("must have at most %d members", k.Want)
	}
	return []*flaw{f}
}

// choice returns what is wrong with a value of which none, or more than one, of
// several forms is true. What lies deeper inside the value is what matters:
// the form that goes the furthest is the one that was meant.
func choice(f *flaw, found []*flaw) []*flaw {
	var deepest *flaw
	var missing []string
	for _, one := range found {
		if one.key == "required" && len(one.path) == len(f.path)+1 {
			missing = append(missing, one.path[len(f.path)])
		} else if len(one.path) > len(f.path) && (deepest == nil || len(one.path) > len(deepest.path)) {
			deepest = one
		}
	}
	switch {
	case deepest != nil:
		return []*flaw{deepest}
	case len(missing) > 0:
		slices.Sort(missing)
		f.rule, f.key = "needs one of "+strings.Join(slices.Compact(missing), ", "), "required"
	case len(found) == 0:
		f.rule = "has more than one of those that exclude each other"
	default:
		f.rule = "has a value of a type that is not allowed"
		for _, one := range found { // a string that is too long is no number either
			if one.key != "type" {
				f.rule, f.key = one.rule, one.key
				break
			}
		}
	}
	return []*flaw{f}
}
