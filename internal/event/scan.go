package event

import "bytes"

func spliceExtra(dst, context, extra []byte) []byte {
	body := bytes.TrimSpace(context)
	body = bytes.TrimSpace(body[1 : len(body)-1])
	dst = append(dst, '{')
	dst = append(dst, body...)
	if len(body) > 0 {
		dst = append(dst, ',')
	}
	dst = append(dst, `"extra":{`...)
	dst = append(dst, extra...)
	return append(dst, "}}"...)
}
