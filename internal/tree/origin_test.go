package tree

import "testing"

func TestAMachineIsKnownByItsIdentityAndElseByItsName(t *testing.T) {
	t.Parallel()
	ours := Origin{"laptop:/home", "1"}
	for other, same := range map[Origin]bool{
		ours:                      true,
		{"laptop.lan:/home", "1"}: true, // it was renamed
		{"laptop:/home", ""}:      true, // recorded before machines were identified
		{"laptop.lan:/home", ""}:  false,
		{"laptop:/home", "2"}:     false, // another machine of that name
		{"laptop:/root", "1"}:     false,
		{"laptop:/root", ""}:      false,
	} {
		if ours.Same(other) != same || other.Same(ours) != same {
			t.Errorf("%+v is the same: %t", other, !same)
		}
	}
}

func TestARenamedMachineResumesItsPartialCopy(t *testing.T) {
	t.Parallel()
	f := newFolder(t, "ext4")
	mustBegin(t, f, Order{Name: "b1", Origin: Origin{"laptop:/home", "1"}})
	if w := mustBegin(t, f, Order{Name: "b2", Origin: Origin{"laptop:/home", "2"}}); w.Resumed {
		t.Error("another machine resumed it")
	}
	if w := mustBegin(t, f, Order{Name: "b3", Origin: Origin{"laptop.lan:/home", "1"}}); !w.Resumed {
		t.Error("it began anew")
	}
}
