package router

import (
	"fmt"
	"regexp"
	"strings"
)

// The parts of ARNs. Source: Lambda API reference, Invoke, FunctionName and
// Qualifier; SQS API reference, CreateQueue, QueueName (read 2026-11).
var (
	arnPartition = regexp.MustCompile(`^aws[a-z-]*$`)
	arnRegion    = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-[0-9]+$`)
	arnAccount   = regexp.MustCompile(`^[0-9]{12}$`)
	lambdaName   = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	// An alias is not a number alone; a number is a version.
	lambdaQualifier = regexp.MustCompile(`^(\$LATEST|[A-Za-z0-9_-]{1,128})$`)
	sqsName         = regexp.MustCompile(`^([A-Za-z0-9_-]{1,80}|[A-Za-z0-9_-]{1,75}\.fifo)$`)
)

// Forms of ARN that a rule may have, as messages show them.
const (
	lambdaForm = "arn:aws:lambda:REGION:ACCOUNT:function:NAME:ALIAS"
	sqsForm    = "arn:aws:sqs:REGION:ACCOUNT:QUEUE"
	arnForms   = "want " + lambdaForm + " or " + sqsForm
)

// checkARN returns what is wrong with an ARN and what would be right, both
// empty if nothing is.
//
// Documents are often written from an example, with its words "region" and
// "account-id" left in until the functions exist. Off AWS the ARN is not used,
// so those two words are no fault there; checkARN reports them apart.
func checkARN(arn string) (problem, want string, placeholder bool) {
	parts := strings.Split(arn, ":")
	if parts[0] != "arn" || len(parts) < 6 {
		return quote(arn) + " is not an ARN", arnForms, false
	}
	if !arnPartition.MatchString(parts[1]) {
		return fmt.Sprintf("%s is not a partition of AWS", quote(parts[1])), "want aws, aws-cn, aws-us-gov …", false
	}
	region, account := parts[3], parts[4]
	switch {
	case region == "region" || account == "account-id":
		placeholder = true
	case !arnRegion.MatchString(region):
		return fmt.Sprintf("%s is not a region", quote(region)), "want one such as eu-west-1", false
	case !arnAccount.MatchString(account):
		return fmt.Sprintf("%s is not an account", quote(account)), "want the 12 digits of the account id", false
	}
	switch parts[2] {
	case "lambda":
		problem, want = checkLambda(parts[5:])
	case "sqs":
		switch {
		case len(parts) != 6:
			problem, want = "the ARN of a queue has 6 parts, this one has "+fmt.Sprint(len(parts)), "want "+sqsForm
		case !sqsName.MatchString(parts[5]):
			problem, want = quote(parts[5])+" is not the name of a queue", "want 1 to 80 letters, digits, '_' and '-'"
		}
	default:
		problem, want = quote(parts[2])+" cannot be a destination", arnForms
	}
	return problem, want, placeholder && problem == ""
}

// checkLambda checks what follows the account: function:NAME:QUALIFIER.
func checkLambda(resource []string) (problem, want string) {
	switch {
	case resource[0] != "function":
		return quote(resource[0]) + " of Lambda cannot be invoked", "want " + lambdaForm
	case len(resource) < 2 || !lambdaName.MatchString(resource[1]):
		return "the name of the function is missing or wrong", "want 1 to 64 letters, digits, '_' and '-' after function:"
	case len(resource) == 2:
		return "the function has no alias", "add the alias to invoke, such as " + quote("…:"+resource[1]+":prod")
	case len(resource) > 3:
		return "the ARN goes on after the alias", "want " + lambdaForm
	case !lambdaQualifier.MatchString(resource[2]):
		return quote(resource[2]) + " is not an alias or version", "want letters, digits, '_' and '-', or $LATEST"
	}
	return "", ""
}
