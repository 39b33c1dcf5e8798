// etcd, which Patroni keeps its lock in: the server that its own module cannot be installed as, because it replaces others.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
