// What tests the library from outside, as its users have it.
module github.com/keybroker/keybroker/clients/go/tests

go 1.19

require (
	github.com/keybroker/keybroker/clients/go v0.1.0
	github.com/vmihailenco/msgpack/v5 v5.4.1
)

require github.com/vmihailenco/tagparser/v2 v2.0.0 // indirect

replace github.com/keybroker/keybroker/clients/go => ../
