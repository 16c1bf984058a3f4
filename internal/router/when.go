package router

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/checker"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"
)

const (
	// maxCost bounds one evaluation, in CEL's units of cost; a unit takes 10
	// to 200 ns.
	maxCost = 200_000
	// maxSteps bounds the steps of all loops in one evaluation of an expression
	// that might get over maxCost. CEL's account of the cost gets slower with
	// each step (its stack is searched from the top): this many take some
	// 50 ms.
	maxSteps = 5_000
	// maxNesting bounds loops inside loops.
	maxNesting = 2
	// maxRegex bounds the program of a regular expression, in instructions.
	// Go's regular expressions take time linear in the text, times this.
	maxRegex = 500
	// maxDepth and maxNodes bound the nesting and the size of an expression.
	maxDepth = 50
	maxNodes = 2000
	// largestEvent is where events are larger than any stream takes them.
	// Source: Kinesis quotas (read 2026-11), records of 10 MiB at most.
	largestEvent = 16 << 20
)

// condition is a compiled when. It is safe for concurrent use.
type condition struct{ expression }

// expression is a compiled expression over an event. It is safe for concurrent
// use.
type expression struct {
	// program evaluates without bounds, events of at most unbounded bytes: for
	// those the cost stays below maxCost whatever is in them. bounded counts
	// what it does and is several times slower. Both decide by the event
	// alone, never by the clock: a second reading decides the same.
	program, bounded cel.Program
	unbounded        int
	// paths are what the expression reads of an event, for explanations.
	paths []path
	// constant is set if it reads nothing of an event.
	constant bool
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
		cel.ExpressionNodeLimit(maxNodes),
		cel.ASTValidators(
			cel.ValidateDurationLiterals(),
			cel.ValidateTimestampLiterals(),
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
	cond := &condition{}
	if !cond.compile(c, at, source, want, types.BoolKind) {
		return nil
	}
	return cond
}

// compile compiles an expression whose value is of one of the kinds, and returns
// false after reporting a fault. want says what would be right in its place.
func (x *expression) compile(c *collector, at, source, want string, kinds ...types.Kind) (ok bool) {
	// A document must not end the program. What fuzzing found so far is
	// avoided; this is for what it has not.
	defer func() {
		if r := recover(); r != nil {
			c.addf(at, "write it in another way", "the compiler of expressions failed: %v", r)
			ok = false
		}
	}()
	if len(source) > MaxExpression {
		c.addf(at, fmt.Sprintf("the most is %d", MaxExpression), "has %d bytes", len(source))
		return false
	}
	env, err := environment()
	if err != nil {
		c.add(at, "cannot be compiled: "+err.Error(), "")
		return false
	}
	compiled, issues := env.Compile(source)
	if issues.Err() != nil {
		for _, e := range issues.Errors() {
			where := ""
			if e.Location.Line() > 0 {
				where = fmt.Sprintf("line %d, column %d: ", e.Location.Line(), e.Location.Column()+1)
			}
			c.add(at, where+clip(e.Message, 300), wantFor(e.Message, want))
		}
		return false
	}
	if t := compiled.OutputType(); t.Kind() != types.DynKind && !slices.Contains(kinds, t.Kind()) {
		c.addf(at, want, "the expression is a %s", t)
		return false
	}
	root := ast.NavigateAST(compiled.NativeRep())
	if problem, want := checkRegexes(root); problem != "" {
		c.add(at, problem, want)
		return false
	}
	if err := x.plan(env, compiled); err != nil {
		c.add(at, err.Error(), "make the expression simpler")
		return false
	}
	collectPaths(root, func(p path) {
		for _, have := range x.paths {
			if have.source == p.source {
				return
			}
		}
		x.paths = append(x.paths, p)
	})
	x.constant = len(ast.MatchDescendants(root, func(e ast.NavigableExpr) bool {
		return e.Kind() == ast.IdentKind && e.AsIdent() == "event"
	})) == 0
	return true
}

// wantFor says what would be right where the compiler's message does not.
func wantFor(message, otherwise string) string {
	switch {
	case strings.Contains(message, "undefined field"):
		return "an event has the fields " + strings.Join(fields, ", ") + "; its own members are in event.data"
	case strings.Contains(message, "undeclared reference"):
		return "the only variable is event"
	case strings.Contains(message, "nesting limit"):
		return "want at most one loop (all, exists, map, filter …) inside another"
	case strings.Contains(message, "found no matching overload"):
		return "the types do not fit; numbers of events are doubles: write 2.0 for 2 in arithmetic"
	}
	return otherwise
}

// plan makes the programs.
func (x *expression) plan(env *cel.Env, compiled *cel.Ast) error {
	// The cost grows with the size of the event: search for the largest power
	// of two at which it cannot get over the bound.
	low, high := 0, bits.Len(largestEvent)
	for low < high {
		middle := (low + high + 1) / 2
		estimate, err := env.EstimateCost(compiled, sizes(1)<<middle)
		if err != nil {
			return fmt.Errorf("the cost cannot be estimated: %w", err)
		}
		if estimate.Min > maxCost {
			return fmt.Errorf("costs at least %d, the most is %d", estimate.Min, uint64(maxCost))
		}
		if estimate.Max <= maxCost {
			low = middle
		} else {
			high = middle - 1
		}
	}
	optimize := cel.EvalOptions(cel.OptOptimize)
	var err error
	if low > 0 {
		x.unbounded = 1 << low
		if x.program, err = env.Program(compiled, optimize); err != nil {
			return err
		}
	}
	x.bounded, err = env.Program(compiled, optimize, cel.CostLimit(maxCost), cel.InterruptCheckFrequency(maxSteps))
	return err
}

// sizes tells the cost estimate how large the parts of an event can be: each
// as large as the event.
type sizes uint64

func (s sizes) EstimateSize(checker.AstNode) *checker.SizeEstimate {
	return &checker.SizeEstimate{Min: 0, Max: uint64(s)}
}

func (sizes) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}

// expired is a context that has ended. CEL asks it after every maxSteps steps
// of loops, so that an evaluation ends after exactly so many.
var expired = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// checkRegexes returns what is wrong with a regular expression in an
// expression. It must be a literal: another would be compiled anew for each
// event, and the sender of the event might be its author. (CEL's own check of
// the size panics on "(){0}", because it does not simplify first.)
func checkRegexes(root ast.NavigableExpr) (problem, want string) {
	for _, call := range ast.MatchDescendants(root, ast.FunctionMatcher(overloads.Matches)) {
		var literal types.String
		if args := call.AsCall().Args(); len(args) > 0 && args[len(args)-1].Kind() == ast.LiteralKind {
			literal, _ = args[len(args)-1].AsLiteral().(types.String)
		} else {
			return "matches() has a regular expression that is computed", "write the regular expression as a literal"
		}
		parsed, err := syntax.Parse(string(literal), syntax.Perl)
		if err != nil {
			return "matches(): " + clip(err.Error(), 200), "want a regular expression of RE2"
		}
		program, err := syntax.Compile(parsed.Simplify())
		if err != nil {
			return "matches(): " + clip(err.Error(), 200), "want a regular expression of RE2"
		}
		if n := len(program.Inst); n > maxRegex {
			return fmt.Sprintf("matches(): the regular expression has %d instructions", n), fmt.Sprintf("the most is %d; repeat less", maxRegex)
		}
	}
	return "", ""
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

// errTooCostly is the failure of an expression that takes too long over an
// event.
var errTooCostly = errors.New("it costs too much for this event")

// eval evaluates the condition, as expression.eval.
func (c *condition) eval(b *binding, size int) (bool, error) {
	out, err := c.expression.eval(b, size)
	if err != nil {
		return false, err
	}
	matches, ok := out.(types.Bool)
	if !ok {
		return false, errNotBool
	}
	return bool(matches), nil
}

// eval evaluates the expression for an event of a size. An error means that it
// has no value for this event: a member is missing or of another type, or the
// cost got too high.
func (x *expression) eval(b *binding, size int) (ref.Val, error) {
	var out ref.Val
	var err error
	if size <= x.unbounded {
		out, _, err = x.program.Eval(b)
	} else {
		out, _, err = x.bounded.ContextEval(expired, b)
	}
	if err != nil {
		if cancelled, ok := errors.AsType[interpreter.EvalCancelledError](err); ok && cancelled.Cause == interpreter.CostLimitExceeded {
			return nil, errTooCostly
		}
		if errors.Is(err, interpreter.InterruptError{}) {
			return nil, errTooCostly
		}
		return nil, err
	}
	return out, nil
}
