# A peer of bench/dump.ts: pyroute2 (Debian's python3-pyroute2) dumps into its objects.
#   nlpyroute2.py route4|neigh4 CASE   in the namespace that it is started in; ms
import sys
import time

from pyroute2 import IPRoute

kind, case = sys.argv[1:3]
with IPRoute() as ip:
    start = time.monotonic()
    found = list(ip.get_neighbours(family=2) if kind == "neigh4" else ip.get_routes(family=2, table=254))
    took = (time.monotonic() - start) * 1e3
print("nlpyroute2: %d objects" % len(found), file=sys.stderr)
print('{"case":"%s","value":%.1f}' % (case, took))
