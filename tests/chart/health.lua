-- Checks Argo CD's health of a ChatRoom, with the interpreter that Argo CD uses (gopher-lua). Its argument is the script, check.sh takes it out of
-- manifests/argo-cd/health.yaml. Prints every case that is wrong.

local script = assert(loadfile(arg[1]))

local function room(conditions, more)
  local made = {
    metadata = { generation = 2 },
    status = { observedGeneration = 2, url = "http://sala.example/", conditions = conditions },
  }
  for name, value in pairs(more or {}) do
    made[name] = value
  end
  return made
end

local function condition(type, status, reason)
  return { type = type, status = status, reason = reason, message = "the message" }
end

local cases = {
  { "new", "Progressing", room(nil, { status = nil }) },
  { "without a status", "Progressing", { metadata = { generation = 1 } } },
  { "of an earlier spec", "Progressing", room({ condition("Ready", "True", "Ready") }, { metadata = { generation = 3 } }) },
  { "ready", "Healthy", room({ condition("Ready", "True", "Ready"), condition("Accepted", "True", "Valid") }) },
  { "starting", "Progressing", room({ condition("Ready", "False", "Starting"), condition("Accepted", "True", "Valid") }) },
  { "that waits for a log", "Progressing", room({ condition("Ready", "False", "NotStarted") }) },
  { "with a broker that is away", "Degraded", room({ condition("Ready", "False", "BrokerUnreachable") }) },
  { "that is invalid", "Degraded", room({ condition("Ready", "False", "Invalid"), condition("Accepted", "False", "Invalid") }) },
  { "whose host another room has", "Degraded", room({ condition("Ready", "False", "HostConflict") }) },
  { "that is paused", "Suspended", room({ condition("Ready", "True", "Ready"), condition("Accepted", "True", "Paused") }) },
  { "that is being deleted", "Progressing", room({ condition("Ready", "True", "Ready") }, { metadata = { generation = 2, deletionTimestamp = "now" } }) },
}

local wrong = 0
for _, case in ipairs(cases) do
  obj = case[3]
  local health = script()
  if health.status ~= case[2] or health.message == nil then
    wrong = wrong + 1
    print("a room " .. case[1] .. " is " .. health.status .. " instead of " .. case[2])
  end
end
os.exit(wrong == 0 and 0 or 1)
