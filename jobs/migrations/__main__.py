from jobs.migrations import upgrade
from jobs.settings import settings
from jobs.tables import connect

upgrade(connect(settings().database_url))
