package main

import (
	"bytes"
	"html/template"
	"net/http"
)

// pageStyle is the style of the service's few pages of its own.
const pageStyle = `<style>
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }
body { margin: 0 } main { max-width: 32rem; margin: 2rem auto; padding: 0 1rem }
input, button { font: inherit; padding: .4rem .6rem; max-width: 100%; box-sizing: border-box }
</style>`

var messagePage = template.Must(template.New("message").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{.Title}} · Weir</title>
<meta name="viewport" content="width=device-width, initial-scale=1">{{if .Refresh}}<meta http-equiv="refresh" content="0; url={{.Link}}">{{end}}` + pageStyle + `</head>
<body><main><h1>{{.Title}}</h1>{{range .Text}}<p>{{.}}</p>{{end}}
{{if .Link}}<p><a href="{{.Link}}">{{.LinkText}}</a></p>{{end}}
</main></body></html>
`))

type message struct {
	Title    string
	Text     []string
	Link     string
	LinkText string
	Refresh  bool // the browser follows the link by itself
}

// writePage renders a page that nothing from elsewhere can be put into.
func writePage(w http.ResponseWriter, status int, page *template.Template, data any) {
	var buf bytes.Buffer
	if err := page.Execute(&buf, data); err != nil {
		http.Error(w, "the page cannot be shown", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes()) // a browser that has gone misses it
}
