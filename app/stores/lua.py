"""The scripts that Redis runs, each as one atomic step, and the keys that it keeps:

    {recurve}:stream:KEY    the record; it has an expiry in Redis too, for when no service is left to sweep
    {recurve}:due           the keys, sorted by when their records may be dropped, in milliseconds
    {recurve}:gone:KEY      a record of this key was dropped; Redis removes this entry after GONE seconds

The braces keep all keys on one node of a cluster. The scripts need Redis 6.2 or later.
"""

from hashlib import sha1

DUE = "{recurve}:due"
RECORD = "{recurve}:stream:"
EXPIRED = "{recurve}:gone:"


class Script:
    """A Lua script. Its source is sent once, and then only its digest, until Redis forgets the script."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.digest = sha1(source.encode(), usedforsecurity=False).hexdigest()


# A change that arrives after its deadline, the last argument, is refused: its sender already counts it as failed.
_IN_TIME = """
local clock = redis.call('TIME')
if clock[1] * 1000 + clock[2] / 1000 > tonumber(ARGV[#ARGV]) then return redis.error_reply('LATE it came too late') end
"""
# When its memory is full, Redis refuses the first command of a script that would write: then nothing has changed.
SWAP = Script(f"""{_IN_TIME}
if redis.call('GETRANGE', KEYS[1], 0, 15) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PXAT', ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[5])
if ARGV[1] == '' then redis.call('DEL', KEYS[3]) end
return 1
""")
REMOVE = Script(f"""{_IN_TIME}
if redis.call('GETRANGE', KEYS[1], 0, 15) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[2])
return 1
""")
# Redis never refuses DEL, and a script that has written once may go on writing.
SWEEP = Script("""
local over = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, key in ipairs(over) do
  redis.call('DEL', ARGV[3] .. key)
  redis.call('ZREM', KEYS[1], key)
  redis.call('SET', ARGV[4] .. key, '', 'EX', ARGV[5])
end
return #over
""")
