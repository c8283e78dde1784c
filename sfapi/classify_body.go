package sfapi

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"sync"
)

var gzipPool sync.Pool // of *gzip.Reader

// inflatedLimit bounds what a compressed body of n bytes may grow to, so that
// no body allocates more than a small multiple of its size. Results of 200
// rows that failed alike shrink by a factor of about thirty.
func inflatedLimit(n int) int { return min(n*32+4<<10, 4<<20) }

// decoded is a body as text.
type decoded struct {
	text      []byte
	truncated bool // it ended early on its way to us
	capped    bool // we stopped reading it
	ok        bool // it could be read at all
}

// decodedBody returns r's body as text, inflated where it is gzip. Half of a
// gzip stream gives half of the text.
func decodedBody(r *Response) decoded {
	d := decoded{text: r.Body, ok: true}
	switch {
	case len(d.text) >= 2 && d.text[0] == 0x1f && d.text[1] == 0x8b:
		// The magic number tells more than the header: a transport that
		// inflates may leave Content-Encoding standing.
		d.inflate()
		if len(d.text) == 0 {
			return decoded{truncated: true}
		}
	case len(d.text) > 0 && headerValue(r.Header, "Content-Encoding") != "" && !printable(d.text):
		// deflate, br, zstd: codings that nobody here asked for.
		return decoded{truncated: true}
	}
	d.text = bytes.TrimPrefix(d.text, []byte("\xef\xbb\xbf"))
	d.text = bytes.Trim(d.text, " \t\r\n\x00")
	return d
}

func printable(b []byte) bool {
	for _, c := range b[:min(len(b), 64)] {
		if c < ' ' && c != '\n' && c != '\r' && c != '\t' {
			return false
		}
	}
	return true
}

// inflate replaces d's text by what it is the gzip of.
func (d *decoded) inflate() {
	zr, _ := gzipPool.Get().(*gzip.Reader)
	src := bytes.NewReader(d.text)
	limit := inflatedLimit(len(d.text))
	// Growing by doubling costs at most twice the limit; most error bodies
	// fit into the first piece.
	text := make([]byte, 0, min(limit, max(512, 4*len(d.text))))
	d.text = nil
	var err error
	if zr == nil {
		zr, err = gzip.NewReader(src)
	} else {
		err = zr.Reset(src)
	}
	if err != nil {
		d.truncated = true
		return
	}
	defer gzipPool.Put(zr)
	for err == nil {
		if len(text) == cap(text) {
			if len(text) >= limit {
				d.capped = true
				break
			}
			size := 2 * cap(text)
			if size > limit/2 {
				size = limit
			}
			text = append(make([]byte, 0, size), text...)
		}
		var n int
		n, err = zr.Read(text[len(text):cap(text)])
		text = text[:len(text)+n]
	}
	d.text, d.truncated = text, err != nil && !errors.Is(err, io.EOF)
}
