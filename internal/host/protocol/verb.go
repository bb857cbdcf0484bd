package protocol

import (
	"context"
	"fmt"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/transport/wire"
)

// A Role is what a verb is for. What a client may do is told in roles.
type Role int

const (
	Any         Role = iota
	Source           // on the machine that snapshots are sent from
	Destination      // on the machine that backups are received on
	Trees            // backups of directory trees
	Owner            // what backups hold, and what only their owner may do to them
)

// About describes a verb.
type About struct {
	Name       string
	Role       Role
	Repeatable bool // a call means the same when it is made twice: it is made again when the connection broke
}

const (
	once       = false
	repeatable = true
)

// A Verb is what a client may ask of an agent: with Args, for a Reply. Notices may come before that. Both ends use the
// declaration, so that they agree about the types.
type Verb[Args, Reply, Notice any] struct{ About }

func verb[Args, Reply, Notice any](name string, role Role, repeatable bool) Verb[Args, Reply, Notice] {
	about := About{name, role, repeatable}
	all = append(all, about)
	return Verb[Args, Reply, Notice]{about}
}

var all []About

// All gives the verbs that there are.
func All() []About { return slices.Clone(all) }

// Nothing is asked, answered or noticed.
type Nothing struct{}

// A Caller makes calls: a connection as it is (Direct), or what makes one when it is needed.
type Caller interface {
	Call(ctx context.Context, verb About, args, reply any, notice func(wire.Raw)) error
}

// Call makes a call. The error is what FromWire gives.
func (v Verb[Args, Reply, Notice]) Call(ctx context.Context, c Caller, args Args) (Reply, error) {
	return v.CallTold(ctx, c, args, nil)
}

// CallTold is Call, and tells each notice that comes before the reply; tell may be nil, and must not itself call.
func (v Verb[Args, Reply, Notice]) CallTold(ctx context.Context, c Caller, args Args, tell func(Notice)) (reply Reply, err error) {
	var notice func(wire.Raw)
	if tell != nil {
		notice = func(n wire.Raw) {
			var told Notice
			if n.Decode(&told) == nil {
				tell(told)
			}
		}
	}
	err = c.Call(ctx, v.About, args, &reply, notice)
	return reply, err
}

// Direct is a connection that makes each call once.
type Direct struct{ *wire.Conn }

// Call makes a call.
func (d Direct) Call(ctx context.Context, verb About, args, reply any, notice func(wire.Raw)) error {
	return FromWire(d.Conn.Call(ctx, verb.Name, args, reply, notice))
}

// UnknownVerb is what agents of any version say of a verb of a later one. The text is a part of the protocol.
func UnknownVerb(name string) string { return fmt.Sprintf("the verb %q is not known here", name) }
