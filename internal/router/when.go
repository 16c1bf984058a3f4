package router

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/checker"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
)

const (
	// maxCost bounds one evaluation, in CEL's units of cost. Measured: about
	// 50 ns each, so the worst expression on the worst event takes some 10 ms.
	maxCost = 200_000
	// maxNesting bounds loops inside loops. The cost of one inside another
	// grows with the square of the event; maxCost bounds that.
	maxNesting = 2
	// maxRegex bounds the program of a regular expression, in instructions.
	// Go's regular expressions take time linear in the text, times this.
	maxRegex = 500
	// maxDepth bounds the nesting of an expression.
	maxDepth = 50
	// largestEvent is the size that costs are estimated with: no stream that
	// we know stores a larger event. Source: Kinesis quotas (read 2026-11),
	// records up to 10 MiB if asked for, 1 MiB by default.
	largestEvent = 10 << 20
)

// condition is a compiled when. It is safe for concurrent use.
type condition struct {
	source  string
	program cel.Program
	// paths are what the expression reads of an event, for explanations.
	paths []path
}

// path is one member of an event that an expression reads.
type path struct {
	source string // as CEL writes it: event.data.total
	tokens []string
}

// environment is what expressions are compiled in.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	registry, err := types.NewRegistry()
	if err != nil {
		return nil, err
	}
	return cel.NewEnv(
		cel.CustomTypeAdapter(registry),
		cel.CustomTypeProvider(newProvider(registry)),
		cel.Variable("event", eventType),
		cel.DefaultUTCTimeZone(true),
		cel.CrossTypeNumericComparisons(true),
		cel.ParserExpressionSizeLimit(MaxExpression),
		cel.ParserRecursionLimit(maxDepth),
		cel.ExpressionNodeLimit(2000),
		cel.RegexProgramSizeLimit(maxRegex),
		cel.ASTValidators(
			cel.ValidateDurationLiterals(),
			cel.ValidateTimestampLiterals(),
			cel.ValidateRegexLiterals(),
			cel.ValidateComprehensionNestingLimit(maxNesting),
		),
	)
})

// compileCondition compiles a when, and returns nil after reporting a fault.
func compileCondition(c *collector, at, source string) *condition {
	const want = "want a CEL expression that is true or false, such as event.data.total > 100"
	if strings.TrimSpace(source) == "" {
		c.add(at, "is empty", want+"; leave it out to want all")
		return nil
	}
	if len(source) > MaxExpression {
		c.addf(at, fmt.Sprintf("the most is %d", MaxExpression), "has %d bytes", len(source))
		return nil
	}
	env, err := environment()
	if err != nil {
		c.add(at, "cannot be compiled: "+err.Error(), "")
		return nil
	}
	compiled, issues := env.Compile(source)
	if issues.Err() != nil {
		for _, e := range issues.Errors() {
			c.addf(at, wantFor(e.Message, want), "line %d, column %d: %s", e.Location.Line(), e.Location.Column()+1, clip(e.Message, 300))
		}
		return nil
	}
	if t := compiled.OutputType(); !t.IsExactType(types.BoolType) && !t.IsExactType(types.DynType) {
		c.addf(at, want, "the expression is a %s", t)
		return nil
	}
	root := ast.NavigateAST(compiled.NativeRep())
	if computedRegex(root) {
		c.add(at, "matches() has a regular expression that is computed", "write the regular expression as a literal")
		return nil
	}
	program, err := newProgram(env, compiled)
	if err != nil {
		c.add(at, err.Error(), "make the expression simpler")
		return nil
	}
	cond := &condition{source: source, program: program}
	collectPaths(root, func(p path) {
		for _, have := range cond.paths {
			if have.source == p.source {
				return
			}
		}
		cond.paths = append(cond.paths, p)
	})
	return cond
}

// wantFor says what would be right where the compiler's message does not.
func wantFor(message, otherwise string) string {
	switch {
	case strings.Contains(message, "undefined field"):
		return "an event has the fields " + strings.Join(fields, ", ") + "; its own members are in event.data"
	case strings.Contains(message, "undeclared reference"):
		return "the only variable is event"
	case strings.Contains(message, "found no matching overload"):
		return "the types do not fit; numbers of events are doubles: write 2.0 for 2 in arithmetic"
	}
	return otherwise
}

// newProgram makes the program. Counting the cost of an evaluation takes
// longer than most evaluations, so it is done only where the cost can get over
// the bound.
func newProgram(env *cel.Env, compiled *cel.Ast) (cel.Program, error) {
	estimate, err := env.EstimateCost(compiled, sizes{})
	if err != nil {
		return nil, fmt.Errorf("the cost cannot be estimated: %w", err)
	}
	if estimate.Min > maxCost {
		return nil, fmt.Errorf("costs at least %d, the most is %d", estimate.Min, uint64(maxCost))
	}
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
	if estimate.Max > maxCost {
		options = append(options, cel.CostLimit(maxCost))
	}
	return env.Program(compiled, options...)
}

// sizes tells the cost estimate how large the parts of an event can be.
type sizes struct{}

func (sizes) EstimateSize(checker.AstNode) *checker.SizeEstimate {
	return &checker.SizeEstimate{Min: 0, Max: largestEvent}
}

func (sizes) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}

// computedRegex reports whether an expression matches against a regular
// expression that is not a literal: it would be compiled anew for each event,
// and the sender of the event might be its author.
func computedRegex(root ast.NavigableExpr) bool {
	calls := ast.MatchDescendants(root, ast.FunctionMatcher(overloads.Matches))
	for _, call := range calls {
		args := call.AsCall().Args()
		if len(args) == 0 || args[len(args)-1].Kind() != ast.LiteralKind {
			return true
		}
	}
	return false
}

// collectPaths yields the longest paths into the event that an expression has.
func collectPaths(e ast.NavigableExpr, yield func(path)) {
	if p, ok := pathOf(e); ok {
		if len(p.tokens) > 0 {
			yield(p)
		}
		return
	}
	for _, child := range e.Children() {
		collectPaths(child, yield)
	}
}

func pathOf(e ast.Expr) (path, bool) {
	switch e.Kind() {
	case ast.IdentKind:
		return path{source: "event"}, e.AsIdent() == "event"
	case ast.SelectKind:
		s := e.AsSelect()
		p, ok := pathOf(s.Operand())
		return path{p.source + "." + s.FieldName(), append(p.tokens, s.FieldName())}, ok
	case ast.CallKind:
		call := e.AsCall()
		if call.FunctionName() != operators.Index || len(call.Args()) != 2 || call.Args()[1].Kind() != ast.LiteralKind {
			return path{}, false
		}
		p, ok := pathOf(call.Args()[0])
		switch key := call.Args()[1].AsLiteral().(type) {
		case types.String:
			return path{p.source + "[" + strconv.Quote(string(key)) + "]", append(p.tokens, string(key))}, ok
		case types.Int:
			n := strconv.FormatInt(int64(key), 10)
			return path{p.source + "[" + n + "]", append(p.tokens, n)}, ok
		}
	}
	return path{}, false
}

// errNotBool is the failure of an expression whose type is known only when it
// has been evaluated.
var errNotBool = errors.New("the expression is neither true nor false")

// eval evaluates the condition. An error means that it has no value for this
// event: a member is missing or of another type, or the cost got too high.
func (c *condition) eval(b *binding) (bool, error) {
	out, _, err := c.program.Eval(b)
	if err != nil {
		return false, err
	}
	matches, ok := out.(types.Bool)
	if !ok {
		return false, errNotBool
	}
	return bool(matches), nil
}
