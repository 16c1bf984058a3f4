package cost

import (
	_ "embed"
	"io"
)

//go:embed prices.json
var embeddedPrices []byte

// Price is a list price: what one unit costs, where that stands, and when it
// was read there.
type Price struct {
	// Value is in USD, for Per units.
	Value float64 `json:"value" validate:"gt=0,max=1e6"`
	Per   int     `json:"per" validate:"min=1"`
	// Unit says what is counted, such as "GB-second".
	Unit   string `json:"unit" validate:"required"`
	Region string `json:"region" validate:"required"`
	// Source is where the price was read, the line of AWS's own price list
	// where that is known.
	Source string `json:"source" validate:"required"`
	// Date is when the source said so.
	Date string `json:"date" validate:"datetime=2006-01-02"`
	// Verified says that the source is AWS's price list or pricing page, or a
	// copy of one that gives its date. Without it the price is what people
	// remember.
	Verified *bool `json:"verified" validate:"required"`

	member string
}

// each returns what one unit costs, in USD.
func (p Price) each() float64 { return p.Value / float64(p.Per) }

// Prices are the list prices that an estimate needs. Each is one member of the
// price file, which has all of them and no other.
type Prices struct {
	Currency string `json:"currency" validate:"oneof=USD"`

	// The tiers of API Gateway, by requests in a month. The names say from
	// how many on they hold.
	RESTFirst Price `json:"api_gateway_rest"`
	REST333M  Price `json:"api_gateway_rest_from_333_million"`
	REST1G    Price `json:"api_gateway_rest_from_1_billion"`
	REST20G   Price `json:"api_gateway_rest_from_20_billion"`
	HTTPFirst Price `json:"api_gateway_http"`
	HTTP300M  Price `json:"api_gateway_http_from_300_million"`

	FargateCPU   Price `json:"fargate_arm_vcpu_hour"`
	FargateGB    Price `json:"fargate_arm_gb_hour"`
	Balancer     Price `json:"load_balancer_hour"`
	BalancerUnit Price `json:"load_balancer_capacity_unit_hour"`
	Address      Price `json:"public_ipv4_address_hour"`

	Shard       Price `json:"kinesis_shard_hour"`
	PayloadUnit Price `json:"kinesis_put_payload_unit"`
	StreamHour  Price `json:"kinesis_on_demand_stream_hour"`
	StreamIn    Price `json:"kinesis_on_demand_gb_in"`
	StreamOut   Price `json:"kinesis_on_demand_gb_out"`

	LambdaRequest  Price `json:"lambda_request"`
	LambdaGBSecond Price `json:"lambda_arm_gb_second"`

	Queue        Price `json:"sqs_standard_request"`
	OrderedQueue Price `json:"sqs_fifo_request"`

	Backup    Price `json:"firehose_gb"`
	ObjectGet Price `json:"s3_get_request"`

	Logs      Price `json:"cloudwatch_logs_gb"`
	Metric    Price `json:"cloudwatch_metric_month"`
	Alarm     Price `json:"cloudwatch_alarm_month"`
	Dashboard Price `json:"cloudwatch_dashboard_month"`
}

// EmbeddedPrices returns the prices of this build.
func EmbeddedPrices() (Prices, error) { return parsePrices(embeddedPrices) }

// ReadPrices reads a price file. The error names every member that is missing,
// unknown, given twice or wrong.
func ReadPrices(r io.Reader) (Prices, error) {
	doc, err := limited(r)
	if err != nil {
		return Prices{}, err
	}
	return parsePrices(doc)
}

func parsePrices(doc []byte) (Prices, error) {
	var p Prices
	if err := decode(doc, &p); err != nil {
		return Prices{}, err
	}
	for member, price := range fields[Price](&p) {
		price.member = member
	}
	return p, nil
}

// rest and http return the tiers of a kind of API.
func (p *Prices) rest() []tier {
	return []tier{{0, p.RESTFirst}, {333e6, p.REST333M}, {1e9, p.REST1G}, {20e9, p.REST20G}}
}

func (p *Prices) http() []tier { return []tier{{0, p.HTTPFirst}, {300e6, p.HTTP300M}} }
