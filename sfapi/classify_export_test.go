package sfapi

import "strings"

// CodesByKind returns every known code with the kind it stands for when no
// message says otherwise; a code listed in two groups comes twice.
func CodesByKind() map[string][]Kind {
	all := map[string][]Kind{}
	for _, g := range codeGroups {
		seen := map[string]bool{}
		for _, name := range strings.Fields(g.codes) {
			var buf [maxCodeBytes]byte
			key := string(normalizeCode(buf[:0], []byte(name)))
			if key == "" {
				all[name] = append(all[name], KindNone, KindNone)
			}
			if !seen[key] {
				all[key] = append(all[key], g.kind)
				seen[key] = true
			}
		}
	}
	return all
}
