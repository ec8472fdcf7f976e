"""What Redis runs as one step, and under which names it keeps things:

    {recurve}:stream:KEY    the record; Redis frees it itself when no service is left to sweep
    {recurve}:due           the keys, sorted by when their records may be dropped, in milliseconds
    {recurve}:gone:KEY      that a record of this key was dropped; Redis forgets it after GONE seconds

The braces keep all of them on one node of a cluster. Redis 6.2 is the oldest that knows what is used here.
"""

from hashlib import sha1

DUE = "{recurve}:due"
RECORD = "{recurve}:stream:"
MEMORY = "{recurve}:gone:"


class Script:
    """Lua. It is sent once; then its digest stands for it, until Redis forgets it."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.digest = sha1(source.encode(), usedforsecurity=False).hexdigest()


# A change that comes after its time, the last argument, is none: whoever sent it has been told that it failed.
_IN_TIME = """
local clock = redis.call('TIME')
if clock[1] * 1000 + clock[2] / 1000 > tonumber(ARGV[#ARGV]) then return redis.error_reply('LATE it came too late') end
"""
# The first to change anything is what Redis refuses when its memory is full: then nothing has changed.
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
# To drop is never refused, and who has begun to change something may go on.
SWEEP = Script("""
local over = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, key in ipairs(over) do
  redis.call('DEL', ARGV[3] .. key)
  redis.call('ZREM', KEYS[1], key)
  redis.call('SET', ARGV[4] .. key, '', 'EX', ARGV[5])
end
return #over
""")
