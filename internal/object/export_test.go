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

// DialedBy gives options by which connections are made by a function.
func (o S3Options) DialedBy(dial func() (net.Conn, error)) S3Options {
	o.dial = func(context.Context, string, string) (net.Conn, error) { return dial() }
	return o
}
