package architecture

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// most is how many methods an interface has at most, those of embedded ones included.
const most = 6

// known are interfaces of other modules that are embedded here, with their methods.
var known = map[string]int{"io.Writer": 1, "io.Reader": 1, "io.Closer": 1, "io.ReadCloser": 2, "io.WriteCloser": 2, "io.ReadWriteCloser": 3,
	"fmt.Stringer": 1, "error": 1}

func TestNoInterfaceIsWide(t *testing.T) {
	found := make(map[string]*ast.InterfaceType) // by directory and name
	for _, f := range program(t) {
		syntax, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, f.path), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(syntax, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				if i, ok := spec.Type.(*ast.InterfaceType); ok {
					found[filepath.Base(f.dir)+"."+spec.Name.Name] = i
				}
			}
			return true
		})
	}
	var count func(t *testing.T, pkg, name string) int
	count = func(t *testing.T, pkg, name string) (methods int) {
		i, ok := found[pkg+"."+name]
		if !ok {
			if n, ok := known[pkg+"."+name]; ok {
				return n
			}
			t.Errorf("how many methods has %s.%s?", pkg, name)
			return 0
		}
		for _, field := range i.Methods.List {
			switch e := field.Type.(type) {
			case *ast.FuncType:
				methods++
			case *ast.Ident:
				if n, ok := known[e.Name]; ok {
					methods += n
				} else {
					methods += count(t, pkg, e.Name)
				}
			case *ast.SelectorExpr:
				methods += count(t, e.X.(*ast.Ident).Name, e.Sel.Name)
			}
		}
		return methods
	}
	for name := range found {
		pkg, base, _ := strings.Cut(name, ".")
		if n := count(t, pkg, base); n > most {
			t.Errorf("%s has %d methods, more than %d: give its consumers an interface each", name, n, most)
		}
	}
}
