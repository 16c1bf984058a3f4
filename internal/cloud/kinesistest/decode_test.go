package kinesistest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
)

// seeds are inputs of PutRecords; those that are read fast come first.
var seeds = []struct {
	body string
	fast bool
}{
	{`{"Records":[{"Data":"aGVsbG8=","PartitionKey":"u1"}],"StreamName":"events"}`, true},
	{` { "StreamARN" : "arn" , "Records" : [ { "PartitionKey" : "ü" , "Data" : "" , "ExplicitHashKey":"7"} , {} ] } `, true},
	{`{}`, true},
	{`{"Records":[]}`, true},

	{`{"Records":[{"Data":"aGVs\nbG8=","PartitionKey":"u1"}]}`, false},
	{"{\"Records\":[{\"Data\":\"aGVs\nbG8=\"}]}", false},
	{`{"Records":[{"Data":"aGVsbG8","PartitionKey":"u1"}]}`, false},
	{`{"Records":[{"Data":"=aGVsbG8"}]}`, false},
	{`{"Records":[{"PartitionKey":"a\u0062"}]}`, false},
	{"{\"StreamName\":\"\xff\"}", false},
	{"{\"StreamName\":\"a\tb\"}", false},
	{`{"StreamName":"a","StreamName":"b"}`, false},
	{`{"Records":[{"Data":"AA==","Data":""}]}`, false},
	{`{"Records":[{"Data":null}]}`, false},
	{`{"Records":[null]}`, false},
	{`{"DryRun":true}`, false},
	{`{"streamname":"a"}`, false},
	{`{"StreamName":"a"}x`, false},
	{`{"StreamName":"a",}`, false},
	{`{"StreamName":"a"`, false},
	{`[]`, false},
}

func TestWhatSDKsSendIsReadFast(t *testing.T) {
	t.Parallel()
	for _, seed := range seeds {
		var in putRecordsInput
		if got := in.decodeFast([]byte(seed.body)); got != seed.fast {
			t.Errorf("%s: fast %v, want %v", seed.body, got, seed.fast)
		}
		checkSame(t, []byte(seed.body))
	}
}

// checkSame checks that what is read fast is what encoding/json reads.
func checkSame(t *testing.T, body []byte) {
	t.Helper()
	var fast, slow putRecordsInput
	if !fast.decodeFast(body) {
		if !reflect.DeepEqual(fast, putRecordsInput{}) {
			t.Errorf("%q: given up, and %+v is left", body, fast)
		}
		return
	}
	if err := json.Unmarshal(body, &slow); err != nil {
		t.Fatalf("%q: encoding/json: %v", body, err)
	}
	if len(slow.Records) == 0 { // whether there are none or nil is the same
		slow.Records = fast.Records
	}
	if !reflect.DeepEqual(fast, slow) {
		t.Errorf("%q: %+v\nwant %+v", body, fast, slow)
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range seeds {
		f.Add([]byte(seed.body))
	}
	f.Fuzz(checkSame)
}

// What a result of PutRecords looks like is written by hand: as encoding/json
// writes it.
func TestResultsAreWrittenAsJSON(t *testing.T) {
	t.Parallel()
	out := &putRecordsOutput{EncryptionType: "KMS", FailedRecordCount: 1, Records: []result{
		{SequenceNumber: "49", ShardId: "shardId-000000000000"},
		{ErrorCode: "InternalFailure", ErrorMessage: `it said "no", \ and ü` + "\n\a"},
		{},
	}}
	want, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	var got, wanted any
	if err := json.Unmarshal(out.appendJSON(nil), &got); err != nil {
		t.Fatalf("%v in %s", err, out.appendJSON(nil))
	}
	if err := json.Unmarshal(want, &wanted); err != nil || !reflect.DeepEqual(got, wanted) {
		t.Errorf("%s\nwant %s (%v)", out.appendJSON(nil), want, err)
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, size := range []int{500, 50_000} {
		record := fmt.Sprintf(`{"Data":%q,"PartitionKey":"bucket-17"}`, base64.StdEncoding.EncodeToString(make([]byte, size)))
		body := []byte(`{"Records":[` + string(bytes.TrimSuffix(bytes.Repeat([]byte(record+","), 50), []byte(","))) + `],"StreamName":"events"}`)
		for name, decode := range map[string]func(*putRecordsInput) bool{
			"fast": func(in *putRecordsInput) bool { return in.decodeFast(body) },
			"json": func(in *putRecordsInput) bool { return json.Unmarshal(body, in) == nil },
		} {
			b.Run(fmt.Sprintf("%s/50x%d", name, size), func(b *testing.B) {
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
				for b.Loop() {
					var in putRecordsInput
					if !decode(&in) {
						b.Fatal("not read")
					}
				}
			})
		}
	}
}
