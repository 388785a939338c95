"""
The steps of `RedisStore`: scripts, which the server runs as a whole.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ACQUIRE", "HOLDER", "RELEASE", "RENEW", "SET_ASIDE", "WRITE"]

# One hash a key, so that each step is one script on one key, and a cluster keeps it in one place. The server's clock
# counts, and the fence outlives the lease and the record.

# What a stranger wrote in the place of a number is none: the lease is begun anew, and its owner tells it from others.
_NUMBER: Final = """
local function number(text)
    local n = tonumber(text)
    if n and n >= 0 and n < 2^53 then return n end
    return 0
end
"""

_NOW: Final = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000) "

ACQUIRE: Final = (
    _NUMBER
    + _NOW
    + """
local ends = number(redis.call('HGET', KEYS[1], 'ends'))
if ends > now then return {0, ends - now} end
local fence = redis.pcall('HINCRBY', KEYS[1], 'fence', 1)
if type(fence) ~= 'number' or fence < 1 or fence >= 2^53 then
    fence = 1
    redis.call('HSET', KEYS[1], 'fence', '1')
end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'ends', string.format('%.0f', now + ARGV[2]))
return {1, fence}
"""
)

_MINE: Final = """
local lease = redis.call('HMGET', KEYS[1], 'fence', 'owner', 'ends', 'version')
if lease[1] ~= ARGV[1] or lease[2] ~= ARGV[2] then return 0 end
"""

WRITE: Final = (
    _NUMBER
    + _MINE
    + """
if number(lease[4]) >= tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[3], 'record', ARGV[4], 'key', ARGV[5])
if tonumber(ARGV[7]) > 0 then redis.call('PEXPIRE', KEYS[1], ARGV[7]) end
redis.call('PUBLISH', ARGV[6], ARGV[5])
return 1
"""
)

RENEW: Final = (
    _NUMBER
    + _NOW
    + _MINE
    + """
if number(lease[3]) <= now then return 0 end
redis.call('HSET', KEYS[1], 'ends', string.format('%.0f', now + ARGV[3]))
return 1
"""
)

RELEASE: Final = _MINE + "redis.call('HSET', KEYS[1], 'ends', '0') return 1"

HOLDER: Final = (
    _NUMBER
    + _NOW
    + """
local lease = redis.call('HMGET', KEYS[1], 'owner', 'ends')
local left = number(lease[2]) - now
if left <= 0 then return false end
return {lease[1] or '', left}
"""
)

SET_ASIDE: Final = """
if redis.call('HGET', KEYS[1], 'record') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'torn', ARGV[1])
return redis.call('HDEL', KEYS[1], 'record', 'version', 'key')
"""
