package object

import (
	"context"
	"net"
)

// DialedAs gives options by which all names lead to one address.
func (o S3Options) DialedAs(address string) S3Options {
	o.dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	return o
}
