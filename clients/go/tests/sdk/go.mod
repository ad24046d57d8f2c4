// Apart from the library, which needs no SDK. install.sh adds the one of `pins` that the Go found here can build.
module github.com/keybroker/keybroker/clients/go/tests/sdk

go 1.19
