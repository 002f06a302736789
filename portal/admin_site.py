from django.contrib.admin import AdminSite


class ChanceryAdminSite(AdminSite):
    site_title = "Chancery"
    site_header = "Chancery"
    index_title = "Home"
