"""The steps of `RedisStore` as scripts. The server runs each as a whole, on one key and on a quota."""

from __future__ import annotations

from typing import Final

__all__ = ["ABANDON", "BEGIN", "DELETE", "GIVE_BACK", "HOLDER", "KEEP", "KEPT", "RENEW", "SET_ASIDE", "UNSEEN"]

# Each key has one hash, so that a cluster keeps all of it in one place. Times are by the server's clock. The fence
# outlives the lease and the record.

#: Answers of KEEP: the record was kept, or it was not, because the caller has not seen the stored record.
KEPT: Final = 1
UNSEEN: Final = 2

# If a stranger wrote something else in place of a number, it counts as zero. The lease then starts again, and its owner
# distinguishes it from others.
_NUMBER: Final = """
local function number(text)
    local n = tonumber(text)
    if n and n >= 0 and n < 2^53 - 1 then return math.floor(n) end
    return 0
end
"""

_NOW: Final = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000) "

# The same as `Tally.take`, in microseconds. ARGV from the fifth on: the time per request (0 without a rate), the time
# in which an empty bucket fills, the longest pause, the length of a period (0 without a budget), its tokens (-1 without
# a limit), and the tokens that were not counted.
_TAKE: Final = """
if KEYS[2] then
    local us = t[1] * 1000000 + t[2]
    local kept = redis.call('HMGET', KEYS[2], 'full', 'held', 'period', 'used')
    local share, whole, per = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[8])
    wait = number(kept[2]) - us
    if wait > tonumber(ARGV[7]) then wait = 0 end
    local full_in = math.min(math.max(number(kept[1]) - us, 0), whole)
    if share > 0 then wait = math.max(wait, full_in - (whole - share) - 1000) end
    if per > 0 then
        period, used = number(kept[3]), number(kept[4])
        local this = math.floor(us / per)
        if this > period or this < period - 1 then period, used = this, 0 end
        used = used + tonumber(ARGV[10])
        left = (period + 1) * per - us
        local tokens = tonumber(ARGV[9])
        if tokens >= 0 and used >= tokens then wait = math.max(wait, left) end
        if wait <= 0 then used = used + 1 end
        redis.call('HSET', KEYS[2], 'period', string.format('%.0f', period), 'used', string.format('%.0f', used))
    end
    if wait <= 0 and share > 0 then
        redis.call('HSET', KEYS[2], 'full', string.format('%.0f', us + full_in + share))
    end
    redis.call('PEXPIRE', KEYS[2], math.ceil(math.max(2 * per, whole, tonumber(ARGV[7])) / 1000))
    if wait > 0 then return {2, math.ceil(wait), found[3], used, period, math.ceil(left)} end
end
"""

# ARGV: owner, ttl, the longest lease, expire (all in ms). With a quota (the second key), its limits follow.
BEGIN: Final = (
    _NUMBER
    + _NOW
    + """
local found = redis.call('HMGET', KEYS[1], 'owner', 'ends', 'record', 'fence')
local ends = number(found[2])
if ends > now and ends <= now + ARGV[3] and found[1] ~= ARGV[1] then return {0, ends - now, found[3]} end
local wait, used, period, left = 0, 0, 0, 0
"""
    + _TAKE
    + """
local fence = number(found[4]) + 1
redis.call('HSET', KEYS[1], 'fence', string.format('%.0f', fence), 'owner', ARGV[1],
    'ends', string.format('%.0f', now + ARGV[2]))
if tonumber(ARGV[4]) > 0 then redis.call('PEXPIRE', KEYS[1], math.max(ARGV[4], ARGV[2])) end
return {1, fence, found[3], used, period, math.ceil(left)}
"""
)

# ARGV: fence, owner, version, record, key, channel, expire, SHA-1 of the record that the caller has seen, whether to
# end the lease, whether it is a sign-out. The notice is sent last, so that the record is kept even for a user without
# rights to the channel.
KEEP: Final = (
    _NUMBER
    + """
local found = redis.call('HMGET', KEYS[1], 'fence', 'owner', 'version', 'record')
if found[1] ~= ARGV[1] or found[2] ~= ARGV[2] then return {0, 0} end
if redis.sha1hex(found[4] or '') ~= ARGV[8] then return {2, found[4]} end
if number(found[3]) >= tonumber(ARGV[3]) then return {0, 0} end
redis.call('HSET', KEYS[1], 'version', ARGV[3], 'record', ARGV[4], 'key', ARGV[5])
if ARGV[9] == '1' then redis.call('HSET', KEYS[1], 'ends', '0') end
if ARGV[10] == '1' then redis.call('HDEL', KEYS[1], 'torn') end
if tonumber(ARGV[7]) > 0 then redis.call('PEXPIRE', KEYS[1], ARGV[7]) end
local told = redis.pcall('PUBLISH', ARGV[6], ARGV[5])
return {1, type(told) == 'number' and 1 or 0}
"""
)

_MINE: Final = """
local lease = redis.call('HMGET', KEYS[1], 'fence', 'owner', 'ends')
if lease[1] ~= ARGV[1] or lease[2] ~= ARGV[2] then return 0 end
"""

# ARGV: fence, owner, ttl, expire.
RENEW: Final = (
    _NUMBER
    + _NOW
    + _MINE
    + """
if number(lease[3]) <= now then return 0 end
redis.call('HSET', KEYS[1], 'ends', string.format('%.0f', now + ARGV[3]))
if tonumber(ARGV[4]) > 0 then redis.call('PEXPIRE', KEYS[1], math.max(ARGV[4], ARGV[3])) end
return 1
"""
)

# ARGV: fence, owner.
ABANDON: Final = _MINE + "redis.call('HSET', KEYS[1], 'ends', '0') return 1"

# The same as `Tally.give_back`. ARGV: fence, owner; in microseconds, the time per request (0 if it was used), the
# period of the token (-1 if it was used), the pause that the provider asked for, and the longest pause.
GIVE_BACK: Final = (
    _NUMBER
    + _NOW
    + """
local us = t[1] * 1000000 + t[2]
local kept = redis.call('HMGET', KEYS[2], 'full', 'held', 'period', 'used')
if tonumber(ARGV[3]) > 0 and kept[1] then
    redis.call('HSET', KEYS[2], 'full', string.format('%.0f', math.max(number(kept[1]) - ARGV[3], 0)))
end
if kept[3] == ARGV[4] then
    redis.call('HSET', KEYS[2], 'used', string.format('%.0f', math.max(number(kept[4]) - 1, 0)))
end
if tonumber(ARGV[5]) > 0 then
    local held = number(kept[2])
    if held > us + ARGV[6] then held = 0 end
    redis.call('HSET', KEYS[2], 'held', string.format('%.0f', math.max(held, us + ARGV[5])))
    redis.call('PEXPIRE', KEYS[2], math.max(redis.call('PTTL', KEYS[2]), math.ceil(ARGV[5] / 1000)))
end
"""
    + _MINE
    + "redis.call('HSET', KEYS[1], 'ends', '0') return 1"
)

# ARGV: the longest lease.
HOLDER: Final = (
    _NUMBER
    + _NOW
    + """
local lease = redis.call('HMGET', KEYS[1], 'owner', 'ends')
local left = number(lease[2]) - now
if left <= 0 or left > tonumber(ARGV[1]) then return false end
return {lease[1] or '', left}
"""
)

# A value of another type is deleted as a whole.
DELETE: Final = """
local gone = redis.pcall('HDEL', KEYS[1], 'record', 'version', 'key', 'torn')
if type(gone) ~= 'number' then return redis.call('DEL', KEYS[1]) end
return gone
"""

# ARGV: the damaged record.
SET_ASIDE: Final = """
if redis.call('HGET', KEYS[1], 'record') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'torn', ARGV[1])
return redis.call('HDEL', KEYS[1], 'record', 'version', 'key')
"""
