// Apart from the other tests, which need nothing but the library.
module github.com/keybroker/keybroker/clients/go/tests/pack

go 1.19

require golang.org/x/mod v0.20.0
