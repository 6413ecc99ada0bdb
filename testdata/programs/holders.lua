-- holders.lua BEHAVIOUR SECONDS: holds memory in one of three ways. Begins with a line of input, says "done", and ends
-- with its input.
local behaviour, seconds = arg[1], tonumber(arg[2])
local held, n = {}, 0

local behaviours = {
  -- A list that is never emptied.
  entries = function()
    for _ = 1, 300 do
      n = n + 1
      held[n] = {n, "entry " .. n}
    end
  end,
  -- The newest 8,000 strings.
  newest = function()
    for _ = 1, 600 do
      n = n + 1
      held[n % 8000 + 1] = string.rep("x", 40 + n % 50) .. n
    end
  end,
  -- Requests, of which one in 100 leaves a handler behind.
  handlers = function()
    for _ = 1, 500 do
      n = n + 1
      local context = {id = n, name = "request " .. n}
      local handler = function() return context.id end
      if n % 100 == 0 then held[#held + 1] = handler end
      handler()
    end
  end,
}

io.read()
local stop = os.time() + seconds
while os.time() < stop do
  behaviours[behaviour]()
  os.execute("sleep 0.05")
end
print("done")
io.stdout:flush()
io.read()
